package log

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// Scenarios of the cleaner drive one compacted log. Commands, with their arguments:
//
//	open [segment-bytes=N] [map=N keys that a pass can take] [delete-retention-ms=N]; reopen
//	append keys=1,2,3 [pid=P [pe=E] [seq=S] [txn]] [coordinator]    a record of each key; sequence numbers go on by themselves
//	tombstone keys=1,2; unkeyed; marker pid=P [pe=E] [abort]; follow base=N keys=1,2
//	roll [at=N]; advance ms=N; aborted; producers; segments
//	clean [from=N]     passes over everything but the active segment; what is below from is clean
//	log                the batches, a line for each
func TestCleanScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/cleaning", func(t *testing.T, path string) {
		s := &cleaning{t: t, clock: &clock{ms: epochMs}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.run(args{t, d})
			if err != nil {
				return out + "error: " + err.Error() + "\n"
			}
			if out == "" {
				return "ok\n"
			}
			return out
		})
	})
}

type cleaning struct {
	t     *testing.T
	disk  *vfs.Mem
	clock *clock
	l     *Log
	c     Config
	keys  int64
	seqs  map[id.ProducerID]int32
}

func (s *cleaning) run(a args) (string, error) {
	switch a.d.Cmd {
	case "open":
		s.disk, s.seqs = mem(s.t), map[id.ProducerID]int32{}
		s.c = testConfig()
		s.c.CleanupCompact, s.c.CleanupDelete = true, false
		s.c.SegmentBytes = a.num("segment-bytes", 1<<20)
		s.c.DeleteRetention = a.ms("delete-retention-ms", 1000*time.Millisecond)
		s.keys = a.num("map", 1000)
		return "", s.open()
	case "reopen":
		if err := s.l.Close(); err != nil {
			return "", err
		}
		return "", s.open()
	case "append", "tombstone", "unkeyed", "follow":
		return s.append(a)
	case "marker":
		pid, pe := id.ProducerID(a.num("pid", 0)), id.ProducerEpoch(a.num("pe", 0))
		m, err := record.EndTxnMarker(pid, pe, !a.has("abort"), s.clock.ms, []byte{0, 0, 0, 0, 0, 3})
		if err != nil {
			return "", err
		}
		r, err := s.l.AppendAsLeader(m, AppendInfo{Origin: OriginCoordinator})
		return fmt.Sprintf("%d\n", r.BaseOffset), err
	case "roll":
		if a.has("at") {
			s.l.mu.Lock()
			defer s.l.mu.Unlock()
			_, err := s.l.roll(id.Offset(a.num("at", 0)))
			return "", err
		}
		return "", s.l.Roll()
	case "advance":
		s.clock.advance(a.ms("ms", 0))
		return "", nil
	case "clean":
		return s.clean(a)
	case "log":
		return s.dump()
	case "aborted":
		var b strings.Builder
		for _, x := range abortedIn(s.t, s.l) {
			fmt.Fprintf(&b, "producer %d from %d to %d, stable %d\n", x.ProducerID, x.FirstOffset, x.LastOffset, x.LastStableOffset)
		}
		return b.String() + "no more\n", nil
	case "producers":
		var b strings.Builder
		for _, p := range s.l.Producers() {
			fmt.Fprintf(&b, "producer %d epoch %d last sequence %d transaction %d\n", p.ProducerID, p.ProducerEpoch, p.LastSequence, p.CurrentTxnStartOffset)
		}
		return b.String(), nil
	case "segments":
		return fmt.Sprintln(bases(s.l)), nil
	}
	return "", errors.New("unknown command")
}

func (s *cleaning) open() (err error) {
	s.l, err = tryOpen(s.t, s.disk, s.c, func(o *LogOptions) { o.Now = s.clock.now })
	return err
}

func (s *cleaning) append(a args) (string, error) {
	o := record.NewOptions()
	if a.has("pid") {
		o.ProducerID, o.ProducerEpoch = id.ProducerID(a.num("pid", 0)), id.ProducerEpoch(a.num("pe", 0))
		o.BaseSequence = int32(a.num("seq", int64(s.seqs[o.ProducerID])))
		o.Transactional = a.has("txn")
	}
	o.BaseOffset = id.Offset(a.num("base", 0))
	b := record.NewBuilder(o)
	keys := strings.Split(a.text("keys", "x"), "-")
	for _, k := range keys {
		key, value := []byte(k), []byte("value")
		switch a.d.Cmd {
		case "tombstone":
			value = nil
		case "unkeyed":
			key = nil
		}
		if err := b.Append(s.clock.ms+a.num("ts", 0), key, value); err != nil {
			return "", err
		}
	}
	raw, err := b.Build()
	if err != nil {
		return "", err
	}
	info := AppendInfo{}
	switch {
	case a.d.Cmd == "follow":
		info = AppendInfo{Origin: OriginReplication, LeaderEpoch: 1000}
	case a.has("coordinator"):
		info.Origin = OriginCoordinator
	}
	if a.d.Cmd == "unkeyed" {
		c := s.c
		c.CleanupCompact = false
		s.l.SetConfig(c)
		defer s.l.SetConfig(s.c)
	}
	r, err := s.l.AppendAsLeader(bytes.Clone(raw), info)
	if err != nil {
		return "", err
	}
	if !r.Duplicate && a.has("pid") {
		s.seqs[o.ProducerID] = o.BaseSequence + int32(len(keys))
	}
	out := fmt.Sprintf("%d to %d", r.BaseOffset, r.LastOffset)
	if r.Duplicate {
		out += " again"
	}
	return out + "\n", nil
}

func (s *cleaning) clean(a args) (string, error) {
	s.l.AdvanceHighWatermark(s.l.EndOffset())
	all := *s.l.segments.Load()
	active := len(all) - 1
	var stats cleanStats
	p := cleanPass{l: s.l, c: s.c, nowMs: s.clock.ms, firstDirty: id.Offset(a.num("from", 0)), upper: all[active].base, segs: all[:active:active], all: all,
		truncations: s.l.truncations, mapBytes: max(s.keys+1, 4) * keySlotBytes,
		load: (float64(s.keys) + 0.5) / float64(max(s.keys+1, 4)), stats: &stats}
	p.in = batchReader{start: minReadBuffer, pause: func(int) error { return nil }}
	end, err := p.run(s.clock.now)
	if err != nil {
		return "", err
	}
	out := fmt.Sprintf("clean up to %d, %d of %d records, %d segments of %d\n", end, stats.recordsWritten, stats.recordsRead, stats.segmentsAfter, stats.segmentsBefore)
	if stats.withoutKey > 0 {
		out += fmt.Sprintf("%d records without a key\n", stats.withoutKey)
	}
	log, err := s.dump()
	return out + log, err
}

func (s *cleaning) dump() (string, error) {
	var out strings.Builder
	for _, b := range readAll(s.t, s.l) {
		fmt.Fprintf(&out, "[%d %d]", b.BaseOffset(), b.LastOffset())
		if b.HasProducerID() {
			fmt.Fprintf(&out, " producer %d sequence %d", b.ProducerID(), b.LastSequence())
		}
		it := b.Records(1 << 20)
		var r record.Record
		for it.Next(&r) {
			switch {
			case b.IsControl():
				kind, err := record.ParseControlKey(r.Key)
				if err != nil {
					return out.String(), err
				}
				fmt.Fprintf(&out, " %d:%v", r.Offset, kind)
			case r.Value == nil:
				fmt.Fprintf(&out, " %d:%s gone", r.Offset, r.Key)
			default:
				fmt.Fprintf(&out, " %d:%s", r.Offset, r.Key)
			}
		}
		if err := it.Err(); err != nil {
			return out.String(), err
		}
		it.Close()
		if b.Count() == 0 {
			out.WriteString(" empty")
		}
		if at, ok := b.DeleteHorizonMs(); ok {
			fmt.Fprintf(&out, " until %d", at-epochMs)
		}
		out.WriteString("\n")
	}
	return out.String(), nil
}
