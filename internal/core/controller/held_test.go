package controller

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// This file runs every scenario again with its commits held back by some records, and loses the leadership after every step of
// it. What a decision says must not depend on the commits; and whatever is lost, the state must be what the log that is left gives.

// step is a command of a scenario and what the free run answered.
type step struct {
	data *datadriven.TestData
	out  string
}

// lags are by how many records commits are held back. The largest holds back everything.
var lags = []int{1, 4, 1 << 30}

// faults are what a controller could get wrong; TestHeldRunsCanFail wants each to be found.
var faults = map[string]func(c *Controller, before Controller){
	"resigning undoes nothing":       func(c *Controller, before Controller) { c.state = before.state },
	"resigning keeps the collisions": func(c *Controller, before Controller) { c.collisions = before.collisions },
	"resigning keeps registrations":  func(c *Controller, before Controller) { c.registered = before.registered },
	"resigning stays in office":      func(c *Controller, _ Controller) { c.active = true },
	"resigning undoes too much": func(c *Controller, before Controller) {
		c.state = New(c.cfg).state
	},
}

// runHeld runs the steps with commits held back by lag records and returns the first thing that is wrong.
func runHeld(t *testing.T, steps []step, lag int, fault func(*Controller, Controller)) error {
	var w *world
	for i, s := range steps {
		// What was committed in the free run when its leadership ended is committed here, too.
		if w != nil && s.data.Cmd == "resign" {
			w.lag = 0
			w.commitTo(w.owed)
		}
		var out string
		if s.data.Cmd == "new" {
			w = newScenario(t, s.data)
			w.lag = lag
			out = w.print(w.activate(t, 1))
			w.commitAll()
		} else {
			out = w.command(t, s.data)
		}
		w.lag = lag
		where := fmt.Sprintf("step %d (%s), commits held back by %d", i, s.data.Pos, lag)
		if out != s.out {
			return fmt.Errorf("%s: the story differs:\n%s", where, cmp.Diff(s.out, out))
		}
		if err := w.checkHeld(t, fault); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	return nil
}

// checkHeld holds the state, what is left of it after a loss, and what the next leadership makes of it against replays.
func (w *world) checkHeld(t *testing.T, fault func(*Controller, Controller)) error {
	replay := func(n int) string { return fingerprint(w.replayed(t, n).state) }
	if diff := cmp.Diff(replay(len(w.log)), fingerprint(w.c.state)); diff != "" {
		return fmt.Errorf("the working state is not the fold of the log:\n%s", diff)
	}
	committed := w.c.state
	if len(w.c.pending) > 0 {
		committed = w.c.pending[0].before
	}
	want := replay(w.commit)
	if diff := cmp.Diff(want, fingerprint(committed)); diff != "" {
		return fmt.Errorf("the committed state is not the fold of the committed log:\n%s", diff)
	}
	for _, u := range w.c.pending {
		c := w.copyOf()
		c.Revert(u.first)
		if diff := cmp.Diff(replay(int(u.first)), fingerprint(c.state)); diff != "" {
			return fmt.Errorf("without the records from %d on the state is not the fold of those before:\n%s", u.first, diff)
		}
	}
	// Deposed: nothing of what was not committed is left, and nothing is decided any more.
	c := w.copyOf()
	before := *c
	c.Resign()
	if fault != nil {
		fault(c, before)
	}
	if diff := cmp.Diff(want, fingerprint(c.state)); diff != "" {
		return fmt.Errorf("deposed, the state is not the fold of the log that is left:\n%s", diff)
	}
	if d := c.Decide(w.env(0), api.NewElectLeadersRequest()); d.Err == nil || d.Err.Code != wire.ErrNotController || len(d.Records) > 0 || c.Pending() > 0 {
		return fmt.Errorf("deposed, it decides %+v", d)
	}
	if d := c.Tick(w.env(0)); len(d.Records) > 0 {
		return fmt.Errorf("deposed, it ticks %+v", d)
	}
	// Elected again it is, soft state and all, what a controller is that has only the log.
	fresh := w.replayed(t, w.commit)
	var stories [2]string
	for i, c := range []*Controller{c, fresh} {
		story, err := w.nextTerm(c)
		if err != nil {
			return err
		}
		stories[i] = story
	}
	if diff := cmp.Diff(stories[1], stories[0]); diff != "" {
		return fmt.Errorf("elected again, it does not do what one does that knows only the log:\n%s", diff)
	}
	return nil
}

// nextTerm lets a controller lead again on the log as it is committed.
func (w *world) nextTerm(c *Controller) (string, error) {
	next := id.Offset(w.commit)
	rnd := rand.New(rand.NewPCG(7, 7))
	env := func() Env { return Env{Now: w.now, NextOffset: next, Rand: rnd, APIVersion: 7} }
	p := &world{names: maps.Clone(w.names)}
	var b strings.Builder
	say := func(d Decision) {
		next += id.Offset(len(d.Records))
		b.WriteString(p.print(d))
	}
	d, err := c.Activate(env(), w.c.epoch+1)
	if err != nil {
		return "", fmt.Errorf("elected again: %w", err)
	}
	say(d)
	say(c.Decide(env(), &api.CreateTopicsRequest{Topics: []api.CreateTopicsRequestTopic{{Name: "next.term", NumPartitions: 2, ReplicationFactor: 1}}}))
	say(c.Decide(env(), w.registration(3, 9)))
	e := env()
	e.Now = e.Now.Add(c.cfg.SessionTimeout * 2)
	for range 10 {
		d := c.Tick(e)
		say(d)
		if len(d.Records) == 0 {
			break
		}
		e.NextOffset = next
	}
	return b.String(), nil
}

// copyOf returns a controller in the state of w's. States are persistent; heartbeats are shared, and not used after resigning.
func (w *world) copyOf() *Controller {
	c := *w.c
	c.pending = slices.Clone(w.c.pending)
	return &c
}

// TestHeldRunsCanFail: each fault is found by some step of some scenario.
func TestHeldRunsCanFail(t *testing.T) {
	for name, fault := range faults {
		found := ""
		datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
			if found != "" {
				return
			}
			if err := runHeld(t, freely(t, path), lags[len(lags)-1], fault); err != nil {
				found = err.Error()
			}
		})
		if found == "" {
			t.Errorf("%s, and nobody notices", name)
		}
	}
}
