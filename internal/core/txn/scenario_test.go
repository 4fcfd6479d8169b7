package txn

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
)

// TestScenarios runs testdata. The commands:
//
//	new [level=N] [two-phase]                  an empty shard; transaction.version N (2)
//	init NAME [id= epoch= timeout= two-phase keep]   InitProducerId
//	add NAME id= epoch= version= P...          AddPartitionsToTxn; P is topic-partition
//	verify NAME id= epoch= P...                the same, only to see
//	end NAME id= epoch= version= commit|abort  EndTxn
//	written NAME [P...]                        the markers under way are written, all or some
//	hold, release, lose                        the high watermark stays; goes on; what is beyond it is lost
//	move [lost=N]                              a new leader loads the log without its last N records
//	advance D, describe NAME, list, epoch NAME E, ids on|off
//	shift D                                    the clock jumps, without anything that is due on the way
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := newWorld(t, 2)
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			w.out = nil
			if td.Cmd == "new" {
				level, err := strconv.Atoi(str(td, "level", "2"))
				if err != nil {
					td.Fatalf(t, "level: %v", err)
				}
				w = newWorld(t, int16(level))
				w.s.cfg.TwoPhaseCommit = td.HasArg("two-phase")
				w.cfg.TwoPhaseCommit = w.s.cfg.TwoPhaseCommit
				return ""
			}
			w.t = t
			w.run(td)
			w.check()
			if len(w.out) == 0 {
				return ""
			}
			return strings.Join(w.out, "\n") + "\n"
		})
	})
}

func (w *world) run(td *datadriven.TestData) {
	num := func(key string, otherwise int64) int64 {
		n, err := strconv.ParseInt(str(td, key, strconv.FormatInt(otherwise, 10)), 10, 64)
		if err != nil {
			w.t.Fatalf("%s: %s: %v", td.Pos, key, err)
		}
		return n
	}
	name := ""
	if len(td.CmdArgs) > 0 {
		name = strings.Trim(td.CmdArgs[0].Key, `"`)
	}
	p := Producer{name, id.ProducerID(num("id", -1)), id.ProducerEpoch(num("epoch", -1))}
	version := int16(num("version", 2))
	switch td.Cmd {
	case "init":
		w.do("init", func(t Turn) shard.Result {
			return w.s.InitProducerID(t, Init{TransactionalID: name, TimeoutMs: int32(num("timeout", 60000)), ProducerID: p.ID, Epoch: p.Epoch,
				TwoPhase: td.HasArg("two-phase"), KeepPrepared: td.HasArg("keep")})
		})
	case "add":
		w.do("add", func(t Turn) shard.Result { return w.s.AddPartitions(t, p, partitions(td), version) })
	case "verify":
		w.do("verify", func(t Turn) shard.Result { return w.s.Verify(t, p, partitions(td)) })
	case "end":
		commit := td.HasArg("commit")
		if commit == td.HasArg("abort") {
			w.t.Fatalf("%s: commit or abort?", td.Pos)
		}
		w.do("end", func(t Turn) shard.Result { return w.s.End(t, p, commit, version) })
	case "written":
		w.written(name, partitions(td))
	case "hold":
		w.hold = true
	case "release":
		w.release()
	case "lose":
		w.lose(wire.ErrNotEnoughReplicas)
		w.hold = false
	case "move":
		w.move(len(w.log) - int(num("lost", 0)))
	case "advance":
		d, err := time.ParseDuration(name)
		if err != nil {
			w.t.Fatalf("%s: %v", td.Pos, err)
		}
		w.advance(d)
	case "shift":
		d, err := time.ParseDuration(name)
		if err != nil {
			w.t.Fatalf("%s: %v", td.Pos, err)
		}
		w.now = w.now.Add(d)
	case "describe":
		w.say("%s", w.show(w.s.Describe(name)))
	case "list":
		n := 0
		w.s.List(func(string, *Transaction) { n++ })
		w.say("%d", n)
	case "epoch": // as if the producer had had this many transactions
		t := *w.s.txns[name]
		e, err := strconv.Atoi(td.CmdArgs[1].Key)
		if err != nil {
			w.t.Fatalf("%s: %v", td.Pos, err)
		}
		t.Epoch = id.ProducerEpoch(e)
		w.carry(shard.NoTicket, shard.Result{Records: []shard.Record{transactionRecord(name, &t, w.level)}})
		w.settle()
	case "ids":
		w.noIDs = name == "off"
	default:
		w.t.Fatalf("%s: unknown command %s", td.Pos, td.Cmd)
	}
}

func str(td *datadriven.TestData, key, otherwise string) string {
	for _, a := range td.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return a.Vals[0]
		}
	}
	return otherwise
}

func partitions(td *datadriven.TestData) []id.TopicPartition {
	var all []id.TopicPartition
	for _, a := range td.CmdArgs[1:] {
		if topic, p, ok := strings.Cut(a.Key, "-"); ok && len(a.Vals) == 0 {
			if n, err := strconv.Atoi(p); err == nil {
				all = append(all, id.TopicPartition{Topic: topic, Partition: int32(n)})
			}
		}
	}
	return all
}

// TestReportOfAnother: without epoch bumps the markers of two transactions in a row may look the same, and are of one each.
func TestReportOfAnother(t *testing.T) {
	w := newWorld(t, 0)
	p := Producer{"a", 1000, 0}
	tp := id.TopicPartition{Topic: "t"}
	w.do("init", func(t Turn) shard.Result {
		return w.s.InitProducerID(t, Init{TransactionalID: "a", TimeoutMs: 1000, ProducerID: id.NoProducer, Epoch: id.NoProducerEpoch})
	})
	begin := func() Markers {
		w.do("add", func(t Turn) shard.Result { return w.s.AddPartitions(t, p, []id.TopicPartition{tp}, 0) })
		w.do("end", func(t Turn) shard.Result { return w.s.End(t, p, false, 0) })
		return w.sent[len(w.sent)-1]
	}
	former := begin()
	w.written("a", nil)
	begin()
	if res := w.s.Written(w.now, former, former.Partitions); len(res.Records) > 0 {
		t.Fatal("markers of the transaction before ended this one")
	}
	w.written("a", nil)
	if got := w.s.txns["a"].State; got != CompleteAbort {
		t.Fatalf("with its own markers it is in %v", got)
	}
}
