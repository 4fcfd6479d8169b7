package log

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// Scenarios drive one log through text files. Commands, with their arguments:
//
//	open [segment-bytes=N] [index-interval=N] [index-bytes=N] [segment-ms=N] [max-lag-ms=N] [retention-ms=N] [retention-bytes=N]
//	     [file-delete-ms=N] [policy=delete|compact|compact-delete|none] [flush-messages=N] [flush-ms=N] [max-message-bytes=N]
//	     [ts-type=create|append] [before-max-ms=N] [after-max-ms=N] [unclean] [start=N] [recovery=N] [hw=N]
//	config ...                                the same, of a log that is open; what is not named stays
//	append [n=records] [size=bytes] [ts=ms after the epoch | no-ts | now ts=ms from now] [epoch=E] [pid=P pe=producer epoch seq=S]
//	     [txn] [key=K] [times=K]
//	follow base=N [n=] [epoch=] [leader=]     append as a follower
//	marker pid=P [pe=] [abort] [coord=E] [tv=V]
//	read from=N [max=bytes] [isolation=end|hw|committed]
//	lookup ts=N|earliest|latest|max
//	hw to=N; flush; flush-due; roll; close; kill; advance ms=N; retention; tick; sweep; expire
//	truncate to=N; restart at=N; delete-records before=N; epoch-end e=N; assign e=N at=N
//	state; files; producers; index segment=N; hex file=NAME; remove file=NAME; flip file=NAME at=N; cut file=NAME size=N
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		s := &scenario{t: t, disk: mem(t), clock: &clock{ms: epochMs}}
		s.disk.SetNow(s.clock.now)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.run(d)
			if err != nil {
				code := ErrorCode(err)
				if code == wire.ErrUnknownServerError {
					return fmt.Sprintf("%serror: %v\n", out, err)
				}
				return fmt.Sprintf("%s%s: %v\n", out, code.Name(), err)
			}
			if out == "" {
				out = "ok\n"
			}
			return out
		})
	})
}

type scenario struct {
	t     *testing.T
	disk  *vfs.Mem
	clock *clock
	l     *Log
	c     Config
}

// args reads a command's arguments.
type args struct {
	t *testing.T
	d *datadriven.TestData
}

func (a args) has(key string) bool { return a.d.HasArg(key) }

func (a args) text(key, value string) string { a.d.MaybeScanArgs(a.t, key, &value); return value }

func (a args) num(key string, value int64) int64 { a.d.MaybeScanArgs(a.t, key, &value); return value }

func (a args) ms(key string, value time.Duration) time.Duration {
	if !a.has(key) {
		return value
	}
	return time.Duration(a.num(key, 0)) * time.Millisecond
}

func (s *scenario) run(d *datadriven.TestData) (string, error) {
	a := args{s.t, d}
	if d.Cmd == "open" {
		return s.open(a)
	}
	if d.Cmd == "advance" {
		s.clock.advance(a.ms("ms", 0))
		return "", nil
	}
	if out, done, err := s.onFiles(d.Cmd, a); done {
		return out, err
	}
	if out, done, err := s.onAppend(d.Cmd, a); done {
		return out, err
	}
	switch d.Cmd {
	case "config":
		s.configure(a)
		s.l.SetConfig(s.c)
		return "", nil
	case "flush-due":
		return fmt.Sprintln(s.l.flushDue(s.clock.now())), nil
	case "read":
		return s.read(a)
	case "lookup":
		return s.lookup(a)
	case "hw":
		s.l.AdvanceHighWatermark(id.Offset(a.num("to", int64(s.l.EndOffset()))))
		return s.state(), nil
	case "flush":
		return "", s.l.Flush(s.l.EndOffset())
	case "roll":
		return "", s.l.Roll()
	case "close":
		return "", s.l.Close()
	case "kill":
		s.disk = s.disk.CrashClone(vfs.KeepUnsynced)
		return "", nil
	case "power-loss":
		s.disk = s.disk.CrashClone(vfs.LoseUnsynced)
		return "", nil
	case "retention":
		n, err := s.l.DeleteOldSegments(s.clock.now())
		return fmt.Sprintf("%d segments deleted\n%s", n, s.state()), err
	case "tick":
		next, err := s.l.Tick(s.clock.now())
		if next.IsZero() {
			return "nothing waits\n", err
		}
		return fmt.Sprintf("next in %v\n", next.Sub(s.clock.now())), err
	case "expire":
		s.l.expireProducers(s.clock.now(), 24*time.Hour)
		return s.producers(), nil
	case "truncate":
		err := s.l.TruncateTo(id.Offset(a.num("to", 0)))
		return s.state(), err
	case "restart":
		err := s.l.TruncateFullyAndStartAt(id.Offset(a.num("at", 0)))
		return s.state(), err
	case "delete-records":
		o, err := s.l.DeleteRecords(id.Offset(a.num("before", 0)))
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("log start %d\n", o), nil
	case "epoch-end":
		e := s.l.EndOffsetForEpoch(id.LeaderEpoch(a.num("e", 0)))
		return fmt.Sprintf("epoch %d ends at %d\n", e.Epoch, e.EndOffset), nil
	case "assign":
		return "", s.l.AssignEpoch(id.LeaderEpoch(a.num("e", 0)), id.Offset(a.num("at", int64(s.l.EndOffset()))))
	case "state":
		return s.state(), nil
	case "producers":
		return s.producers(), nil
	}
	s.t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	return "", nil
}

// configure reads what a topic's configuration is to be from the arguments; what is not among them stays.
func (s *scenario) configure(a args) {
	c := &s.c
	c.SegmentBytes = a.num("segment-bytes", c.SegmentBytes)
	c.IndexIntervalBytes = a.num("index-interval", c.IndexIntervalBytes)
	c.SegmentIndexBytes = a.num("index-bytes", c.SegmentIndexBytes)
	c.SegmentAge = a.ms("segment-ms", c.SegmentAge)
	c.MaxCompactionLag = a.ms("max-lag-ms", c.MaxCompactionLag)
	c.RetentionTime = a.ms("retention-ms", c.RetentionTime)
	c.RetentionBytes = a.num("retention-bytes", c.RetentionBytes)
	c.FileDeleteDelay = a.ms("file-delete-ms", c.FileDeleteDelay)
	c.FlushMessages = a.num("flush-messages", c.FlushMessages)
	c.FlushInterval = a.ms("flush-ms", c.FlushInterval)
	c.MaxMessageBytes = int(a.num("max-message-bytes", int64(c.MaxMessageBytes)))
	c.TimestampBeforeMax, c.TimestampAfterMax = a.ms("before-max-ms", c.TimestampBeforeMax), a.ms("after-max-ms", c.TimestampAfterMax)
	if a.has("ts-type") {
		c.LogAppendTime = a.text("ts-type", "") == "append"
	}
	if a.has("policy") {
		policy := a.text("policy", "")
		c.CleanupDelete, c.CleanupCompact = strings.Contains(policy, "delete"), strings.Contains(policy, "compact")
	}
}

func (s *scenario) open(a args) (string, error) {
	s.c = testConfig()
	s.configure(a)
	var err error
	s.l, err = tryOpen(s.t, s.disk, s.c, func(o *LogOptions) {
		o.Now = s.clock.now
		o.CleanShutdown = !a.has("unclean")
		o.LogStartOffset, o.RecoveryPoint, o.HighWatermark = id.Offset(a.num("start", 0)), id.Offset(a.num("recovery", 0)), id.Offset(a.num("hw", 0))
	})
	if err != nil {
		return "", err
	}
	return s.state(), nil
}

func (s *scenario) onAppend(cmd string, a args) (out string, done bool, err error) {
	if cmd != "append" && cmd != "follow" && cmd != "marker" {
		return "", false, nil
	}
	spec := batchSpec{records: int(a.num("n", 1)), size: int(a.num("size", 10)), ts: epochMs + a.num("ts", 0), leader: id.LeaderEpoch(a.num("epoch", 0)),
		idem: a.has("pid"), pid: id.ProducerID(a.num("pid", 0)), epoch: id.ProducerEpoch(a.num("pe", 0)), seq: int32(a.num("seq", 0)), txn: a.has("txn"), base: id.Offset(a.num("base", 0)), key: a.text("key", "")}
	if a.has("no-ts") {
		spec.ts = record.NoTimestamp
	} else if a.has("now") {
		spec.ts = s.clock.ms + a.num("ts", 0)
	}
	var r AppendResult
	switch cmd {
	case "append":
		for range a.num("times", 1) {
			if r, err = s.l.AppendAsLeader(spec.build(s.t), AppendInfo{LeaderEpoch: spec.leader}); err != nil {
				return "", true, err
			}
		}
	case "follow":
		r, err = s.l.AppendAsFollower(spec.build(s.t), id.LeaderEpoch(a.num("leader", int64(spec.leader))))
	case "marker":
		kind := record.ControlCommit
		if a.has("abort") {
			kind = record.ControlAbort
		}
		m, err := record.EndTxnMarker(spec.pid, spec.epoch, kind == record.ControlCommit, epochMs, []byte{0, 0, 0, 0, 0, byte(a.num("coord", 0))})
		if err != nil {
			return "", true, err
		}
		r, err = s.l.AppendAsLeader(m, AppendInfo{LeaderEpoch: max(0, s.l.LatestEpoch()), Origin: OriginCoordinator, TransactionVersion: int16(a.num("tv", 0))})
		if err != nil {
			return "", true, err
		}
	}
	if err != nil {
		return "", true, err
	}
	dup := ""
	if r.Duplicate {
		dup = " duplicate"
	}
	return fmt.Sprintf("offsets %d to %d%s\n", r.BaseOffset, r.LastOffset, dup), true, nil
}

func (s *scenario) onFiles(cmd string, a args) (out string, done bool, err error) {
	path := "/data/t-0/" + a.text("file", "")
	switch cmd {
	case "files":
		entries, err := s.disk.List("/data/t-0")
		if err != nil {
			return "", true, err
		}
		var b strings.Builder
		for _, e := range entries {
			info, _ := e.Info()
			fmt.Fprintf(&b, "%s %d\n", e.Name(), info.Size())
		}
		return b.String(), true, nil
	case "hex":
		b, err := vfs.ReadFile(s.disk, path, 1<<20)
		return hex.Dump(b), true, err
	case "text":
		b, err := vfs.ReadFile(s.disk, path, 1<<20)
		return string(b), true, err
	case "remove":
		return "", true, s.disk.Remove(path)
	case "write":
		return "", true, vfs.WriteFile(s.disk, path, []byte(a.d.Input))
	case "rename":
		return "", true, s.disk.Rename(path, "/data/t-0/"+a.text("to", ""))
	case "flip", "cut":
		b, err := vfs.ReadFile(s.disk, path, 1<<20)
		if err != nil {
			return "", true, err
		}
		if cmd == "flip" {
			b[a.num("at", 0)] ^= 0xff
		} else if size := int(a.num("size", 0)); size <= len(b) {
			b = b[:size]
		} else {
			b = append(b, make([]byte, size-len(b))...)
		}
		return "", true, vfs.WriteFile(s.disk, path, b)
	}
	return "", false, nil
}

func (s *scenario) read(a args) (string, error) {
	r := ReadRequest{Offset: id.Offset(a.num("from", 0)), MaxBytes: int(a.num("max", 1<<20)), MinOneMessage: true, Reader: Reader{ReplicaID: id.NoBroker}, LastFetchedEpoch: id.LeaderEpoch(a.num("fetched-epoch", -1))}
	r.Isolation = map[string]Isolation{"end": ReadLogEnd, "hw": ReadHighWatermark, "committed": ReadCommitted}[a.text("isolation", "end")]
	res, err := s.l.Read(r)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if res.Diverging != nil {
		fmt.Fprintf(&b, "diverging: epoch %d ends at %d\n", res.Diverging.Epoch, res.Diverging.EndOffset)
	}
	if res.Section == nil {
		b.WriteString("nothing\n")
	} else {
		bytes, err := res.Section.Bytes()
		res.Section.Release()
		if err != nil {
			return "", err
		}
		for len(bytes) > 0 {
			batch, rest, err := record.Next(bytes)
			if err != nil {
				return b.String(), err
			}
			fmt.Fprintf(&b, "[%d %d] epoch %d", batch.BaseOffset(), batch.LastOffset(), batch.LeaderEpoch())
			if batch.IsControl() {
				b.WriteString(" control")
			}
			b.WriteString("\n")
			bytes = rest
		}
	}
	for _, t := range res.AbortedTxns {
		fmt.Fprintf(&b, "aborted: producer %d from %d to %d\n", t.ProducerID, t.FirstOffset, t.LastOffset)
	}
	return b.String(), nil
}

func (s *scenario) lookup(a args) (string, error) {
	ts, special := map[string]int64{"earliest": EarliestTimestamp, "latest": LatestTimestamp, "max": MaxTimestamp, "earliest-local": EarliestLocalTimestamp,
		"latest-tiered": LatestTieredTimestamp, "pending-upload": EarliestPendingUploadTimestamp}[a.text("ts", "")]
	if !special {
		ts = epochMs + a.num("ts", 0)
	}
	r, err := s.l.LookupTimestamp(ts)
	if err != nil {
		return "", err
	}
	if !r.Found {
		return "not found\n", nil
	}
	when := r.Timestamp
	if when >= 0 {
		when -= epochMs
	}
	return fmt.Sprintf("offset %d ts %d epoch %d\n", r.Offset, when, r.LeaderEpoch), nil
}

func (s *scenario) state() string {
	l := s.l
	var bases []string
	for _, seg := range *l.segments.Load() {
		bases = append(bases, fmt.Sprintf("%d(%d)", seg.base, seg.size.Load()))
	}
	var epochs []string
	for _, e := range l.epochs.snapshot() {
		epochs = append(epochs, fmt.Sprintf("%d@%d", e.Epoch, e.StartOffset))
	}
	return fmt.Sprintf("start %d end %d durable %d hw %d lso %d segments %v epochs %v\n", l.StartOffset(), l.EndOffset(), l.DurableEnd(), l.HighWatermark(), l.LastStableOffset(), bases, epochs)
}

func (s *scenario) producers() string {
	var b strings.Builder
	for _, p := range s.l.Producers() {
		fmt.Fprintf(&b, "producer %d epoch %d last sequence %d coordinator %d transaction %d\n", p.ProducerID, p.ProducerEpoch, p.LastSequence, p.CoordinatorEpoch, p.CurrentTxnStartOffset)
	}
	fmt.Fprintf(&b, "state up to %d, snapshots %v\n", s.l.producers.end, slices.Clone(s.l.producers.snapshots))
	return b.String()
}
