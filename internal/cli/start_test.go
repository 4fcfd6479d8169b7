package cli

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseStart(t *testing.T) {
	for _, x := range []struct {
		args []string
		file string
		over []string
		bad  string
	}{
		{args: nil},
		{args: []string{"a.properties", "--override", "k=v", "--override", "l=m=n"}, file: "a.properties", over: []string{"k=v", "l=m=n"}},
		{args: []string{"--override", "k=v", "a.properties"}, file: "a.properties", over: []string{"k=v"}},
		{args: []string{"a", "b"}, bad: "Found non argument parameters: b"},
		{args: []string{"--override"}, bad: "Option --override needs a value"},
		{args: []string{"--nonsense"}, bad: "Unknown option --nonsense"},
		{args: []string{"--log-format", "xml"}, bad: "Unknown log format"},
		{args: []string{"--log-level=loud"}, bad: "Unknown log level"},
		{args: []string{"-daemon", "a"}, bad: "-daemon is not supported"},
	} {
		o, err := parseStart(x.args)
		if x.bad != "" {
			if err == nil || !strings.Contains(err.Error(), x.bad) {
				t.Errorf("%v: %v, want %q", x.args, err, x.bad)
			}
			continue
		}
		if err != nil || o.file != x.file || !slices.Equal(o.overrides, x.over) {
			t.Errorf("%v: %+v, %v", x.args, o, err)
		}
	}
	o, err := parseStart([]string{"--log-level", "debug", "--metrics=none", "--log-format=json"})
	if err != nil || o.level != slog.LevelDebug || o.metrics == nil || *o.metrics != "none" || o.format != "json" {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parseStart([]string{"--version"}); o != nil || err != nil {
		t.Errorf("--version: %+v, %v", o, err)
	}
}

// startLog collects what a node logs and says when it has started.
type startLog struct {
	mu      sync.Mutex
	b       bytes.Buffer
	started chan struct{}
	once    sync.Once
}

func (l *startLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(p, []byte("Kafka Server started")) {
		l.once.Do(func() { close(l.started) })
	}
	return l.b.Write(p)
}

func (l *startLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startArgs are the arguments of a node on free ports.
func startArgs(dir string) []string {
	return []string{"--override", "listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0",
		"--override", "advertised.listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0", "--override", "log.dirs=" + dir, "--metrics", "none"}
}

func TestStartRunsUntilToldToStop(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	out, errs := &startLog{started: make(chan struct{})}, &bytes.Buffer{}
	code := make(chan int, 1)
	go func() {
		code <- Main(ctx, append([]string{"moldau", "start"}, startArgs(dir)...), Streams{Out: out, Err: errs})
	}()
	select {
	case <-out.started:
	case <-time.After(20 * time.Second):
		t.Fatalf("not started:\n%s%s", out, errs)
	}
	cancel()
	if c := <-code; c != 0 || errs.Len() > 0 {
		t.Errorf("exit code %d, %q", c, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, ".kafka_cleanshutdown")); err != nil {
		t.Errorf("no mark of a clean shutdown: %v", err)
	}
	if strings.Contains(out.String(), "level=WARN") {
		t.Errorf("a plain start warns:\n%s", out)
	}
}

func TestStartSaysInOneLineWhyNot(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(t.TempDir(), "server.properties")
	if err := os.WriteFile(file, []byte("process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@localhost:9093\ncontroller.listener.names=CONTROLLER\n"+
		"listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0\nlog.dirs="+t.TempDir()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"(have you run `kafka-storage.sh` to format the directory?)": {file},
		"address already in use":                                     append(startArgs(t.TempDir()), "--override", "listeners=PLAINTEXT://"+l.Addr().String()+",CONTROLLER://127.0.0.1:0"),
		"num.partitions":                                             append(startArgs(t.TempDir()), "--override", "num.partitions=-3"),
		"no such file":                                               {filepath.Join(t.TempDir(), "absent.properties")},
	} {
		var out, errs bytes.Buffer
		code := Main(t.Context(), append([]string{"kafka-server-start.sh"}, args...), Streams{Out: &out, Err: &errs})
		if got := errs.String(); code == 0 || !strings.Contains(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("exit code %d, %q, want one line with %q", code, got, want)
		}
	}
}

// TestStopIsBounded: a node that does not stop is ended, with a line that says so; one that stops is waited for.
func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		hang := make(chan struct{})
		defer close(hang)
		err := stopWithin(stopLimit, func(context.Context) error { <-hang; return nil })
		if took := time.Since(start); took != stopLimit || err == nil || !strings.HasPrefix(err.Error(), "the node has not stopped within 3m0s and is ended") {
			t.Errorf("after %v: %v", took, err)
		}
		start = time.Now()
		err = stopWithin(stopLimit, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		if took := time.Since(start); took != shutdownTime || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", took, err)
		}
	})
}
