package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// ExitCode is the status with which a crash ends the process: that of a process killed by SIGKILL, as a shell reports it.
const ExitCode = 137

// Error is what an armed point returns.
type Error struct{ Point string }

// Error names the point.
func (e *Error) Error() string { return "failpoint " + e.Point }

// Set holds the armed points of one node.
type Set struct {
	mu     sync.Mutex
	points map[string]*point
	exit   func(code int)
}

type point struct {
	skip  int // hits that still pass
	act   func() error
	every bool // stay armed after firing
	hits  int
}

// New returns a set with nothing armed.
func New() *Set { return &Set{points: map[string]*point{}, exit: os.Exit} }

// Parse arms points from text such as "log.afterRename=crash@3,log.append=error": the third hit of the first point ends the
// process, every hit of the second returns an error. Empty text gives the nil set.
func Parse(text string) (*Set, error) {
	if text == "" {
		return nil, nil
	}
	s := New()
	for _, item := range strings.Split(text, ",") {
		name, action, ok := strings.Cut(item, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("failpoint %q: want name=action[@nth]", item)
		}
		action, at, counted := strings.Cut(action, "@")
		nth := 1
		if counted {
			n, err := strconv.Atoi(at)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("failpoint %q: %q is not a hit number", item, at)
			}
			nth = n
		}
		p := &point{skip: nth - 1, every: !counted}
		switch action {
		case "crash":
			p.act = func() error { s.exit(ExitCode); return &Error{Point: name} }
		case "error":
			p.act = func() error { return &Error{Point: name} }
		default:
			return nil, fmt.Errorf("failpoint %q: unknown action %q, want crash or error", item, action)
		}
		s.points[name] = p
	}
	return s, nil
}

// Arm makes the nth hit of a point, counted from now and from 1, run act and return its error. It fires once.
func (s *Set) Arm(name string, nth int, act func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.points[name] = &point{skip: nth - 1, act: act}
}

// Disarm lets every later hit of the point pass.
func (s *Set) Disarm(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.points, name)
}

// Hit is called at the named place. It returns nil unless the point is armed and its turn has come.
func (s *Set) Hit(name string) error {
	if s == nil {
		return nil
	}
	act := s.due(name)
	if act == nil {
		return nil
	}
	return act()
}

func (s *Set) due(name string) func() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.points[name]
	if p == nil {
		return nil
	}
	p.hits++
	if p.skip > 0 {
		p.skip--
		return nil
	}
	if !p.every {
		delete(s.points, name)
	}
	return p.act
}
