package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/moldau-io/moldau/internal/core/image"
)

// TestScenarios runs the files of testdata. Commands:
//
//	new [mv=n] [elr=0]             a controller with an empty log, activated
//	register id=n [incarnation=n] [version=n] [previous=n] [quiet]
//	unfence id=(n,...)             register and unfence brokers, printing nothing
//	heartbeat id=n [fence] [shutdown] [behind]
//	decide [version=n] [direct]    the request in the input: API name and JSON
//	advance s=n [alive=(n,...)]    let time pass, and print what Tick decides
//	tick                           print what Tick decides now
//	commit / resign / activate     what the quorum does
//	partitions topic=name          the working state
//
// Every scenario runs three ways: free, with its commits held back, and deposed after each step; see held_test.go.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		steps := freely(t, path)
		for _, lag := range lags {
			if err := runHeld(t, steps, lag, nil); err != nil {
				t.Error(err)
			}
		}
	})
}

// freely runs a file with every commit where it is written, and returns its steps.
func freely(t *testing.T, path string) []step {
	var w *world
	var steps []step
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		var out string
		if d.Cmd == "new" {
			w = newScenario(t, d)
			out = w.print(w.activate(t, 1))
			w.commitAll()
		} else {
			out = w.command(t, d)
		}
		data := *d
		steps = append(steps, step{&data, out})
		return out
	})
	return steps
}

// newScenario is the world of a new command.
func newScenario(t *testing.T, d *datadriven.TestData) *world {
	mv, elr := int(image.LatestMetadataVersion), 1
	d.MaybeScanArgs(t, "mv", &mv)
	d.MaybeScanArgs(t, "elr", &elr)
	levels := LatestFeatures()
	levels[image.MetadataVersionFeature], levels[image.ElrVersionFeature] = int16(mv), int16(elr)
	return newWorld(levels)
}

func (w *world) command(t *testing.T, d *datadriven.TestData) string {
	version := 0
	d.MaybeScanArgs(t, "version", &version)
	switch d.Cmd {
	case "register":
		var n, incarnation, previous int
		d.ScanArgs(t, "id", &n)
		incarnation, previous = 1, -1
		d.MaybeScanArgs(t, "incarnation", &incarnation)
		d.MaybeScanArgs(t, "previous", &previous)
		if version == 0 {
			version = 4
		}
		r := w.registration(int32(n), byte(incarnation))
		r.PreviousBrokerEpoch = int64(previous)
		out := w.print(w.decide(r, int16(version)))
		if d.HasArg("quiet") {
			return ""
		}
		return out
	case "unfence":
		for _, v := range d.CmdArgs[0].Vals {
			var n int32
			if _, err := fmt.Sscan(v, &n); err != nil {
				t.Fatal(err)
			}
			if dec := w.decide(w.registration(n, 1), 4); dec.Err != nil {
				t.Fatal(dec.Err)
			}
			if dec := w.decide(w.beat(n, false, false), 1); dec.Err != nil {
				t.Fatal(dec.Err)
			}
		}
		w.commitAll()
		return ""
	case "heartbeat":
		var n int
		d.ScanArgs(t, "id", &n)
		r := w.beat(int32(n), d.HasArg("fence"), d.HasArg("shutdown"))
		if d.HasArg("behind") {
			r.CurrentMetadataOffset = 0
		}
		if d.HasArg("stale") {
			r.BrokerEpoch--
		}
		return w.print(w.decide(r, 1))
	case "decide":
		req, err := w.parse(d.Input)
		if err != nil {
			t.Fatalf("%s: %v", d.Pos, err)
		}
		env := w.env(int16(version))
		env.Forwarded = !d.HasArg("direct")
		return w.print(w.take(w.c.Decide(env, req)))
	case "advance":
		var s int
		d.ScanArgs(t, "s", &s)
		w.now = w.now.Add(time.Duration(s) * time.Second)
		if d.HasArg("alive") { // these brokers have sent heartbeats meanwhile
			var ids []string
			for _, a := range d.CmdArgs {
				if a.Key == "alive" {
					ids = a.Vals
				}
			}
			for _, v := range ids {
				var n int32
				if _, err := fmt.Sscan(v, &n); err != nil {
					t.Fatal(err)
				}
				w.decide(w.beat(n, false, false), 1)
			}
		}
		fallthrough
	case "tick":
		var b strings.Builder
		for {
			dec := w.take(w.c.Tick(w.env(0)))
			if len(dec.Records) == 0 {
				break
			}
			b.WriteString(w.print(dec))
		}
		if b.Len() == 0 {
			return "nothing\n"
		}
		return b.String()
	case "commit":
		w.commitAll()
		return ""
	case "resign":
		w.c.Resign()
		w.log = w.log[:w.commit]
		return ""
	case "activate":
		out := w.print(w.activate(t, w.c.epoch+1))
		w.commitAll()
		return out
	case "partitions":
		var name string
		d.ScanArgs(t, "topic", &name)
		topic := w.c.Image().Topics.ByName(name)
		if topic == nil {
			return "no such topic\n"
		}
		var b strings.Builder
		for _, p := range topic.Partitions {
			fmt.Fprintf(&b, "%d leader=%d replicas=%v isr=%v elr=%v last=%v adding=%v removing=%v recovery=%d leaderEpoch=%d partitionEpoch=%d\n", p.ID, p.Leader,
				p.Replicas, p.ISR, p.ELR, p.LastKnownELR, p.Adding, p.Removing, p.RecoveryState, p.LeaderEpoch, p.PartitionEpoch)
		}
		return b.String()
	}
	t.Fatalf("%s: no command %q", d.Pos, d.Cmd)
	return ""
}
