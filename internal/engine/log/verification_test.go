package log

import (
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// verifying is a log that wants guards.
func verifying(t *testing.T) *Log {
	l := openTest(t, mem(t), testConfig(), nil)
	l.o.dynamic.verifyTransactions.Store(true)
	return l
}

func appendGuarded(t *testing.T, l *Log, s batchSpec, guard VerificationGuard, origin Origin) error {
	t.Helper()
	_, err := l.AppendAsLeader(s.build(t), AppendInfo{Guard: guard, Origin: origin})
	return err
}

func wantCode(t *testing.T, err error, want wire.ErrorCode) {
	t.Helper()
	if got := ErrorCode(err); err == nil && want != wire.ErrNone || err != nil && got != want {
		t.Helper()
		t.Fatalf("got %v, want %v", err, want.Name())
	}
}

func begin(t *testing.T, l *Log, pid id.ProducerID, epoch id.ProducerEpoch, seq int32, bump bool) VerificationGuard {
	t.Helper()
	g, err := l.BeginVerification(pid, epoch, seq, bump)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestVerificationGuards(t *testing.T) {
	for _, origin := range []Origin{OriginClient, OriginCoordinator} {
		l := verifying(t)
		txn := batchSpec{txn: true, pid: 7, epoch: 1}
		wantCode(t, appendGuarded(t, l, txn, NoGuard, origin), wire.ErrInvalidTxnState)
		g := begin(t, l, 7, 1, 0, false)
		if g == NoGuard || g != begin(t, l, 7, 1, 0, false) {
			t.Fatal("a question that is open has one guard")
		}
		wantCode(t, appendGuarded(t, l, txn, g+1, origin), wire.ErrInvalidTxnState)
		wantCode(t, appendGuarded(t, l, txn, g, origin), wire.ErrNone)
		// The transaction is open: no more guards are needed, and the old one is void.
		if got := begin(t, l, 7, 1, 1, false); got != NoGuard || !l.HasOngoingTransaction(7, 1) || l.HasOngoingTransaction(7, 2) {
			t.Fatalf("guard %d within a transaction", got)
		}
		txn.seq = 1
		wantCode(t, appendGuarded(t, l, txn, NoGuard, origin), wire.ErrNone)
		endTxn(t, l, 7, 1, record.ControlAbort)
		txn.seq = 2
		wantCode(t, appendGuarded(t, l, txn, g, origin), wire.ErrInvalidTxnState)
		if _, err := l.BeginVerification(7, 0, 0, false); ErrorCode(err) != wire.ErrInvalidProducerEpoch {
			t.Fatalf("an old epoch: %v", err)
		}
		// Batches outside of transactions are nobody's business.
		wantCode(t, appendGuarded(t, l, batchSpec{idem: true, pid: 8}, NoGuard, origin), wire.ErrNone)
		// What a leader sent happened.
		f := batchSpec{txn: true, pid: 9, epoch: 1, base: l.EndOffset()}
		if _, err := l.AppendAsFollower(f.build(t), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// A marker that arrives between question and answer makes the answer worthless, except when the marker is of the transaction
// before: a client of version 2 asks with its next epoch.
func TestVerificationAndMarkers(t *testing.T) {
	for _, bump := range []bool{false, true} {
		l := verifying(t)
		g := begin(t, l, 7, 2, 0, bump)
		endTxn(t, l, 7, 2, record.ControlAbort)
		err := appendGuarded(t, l, batchSpec{txn: true, pid: 7, epoch: 2}, g, OriginClient)
		want := wire.ErrInvalidTxnState
		if bump {
			want = wire.ErrNone
		}
		wantCode(t, err, want)
	}
}

// While the first batch waits for its coordinator, later ones are held back.
func TestVerificationLowestSequence(t *testing.T) {
	l := verifying(t)
	g := begin(t, l, 7, 0, 5, false)
	if g != begin(t, l, 7, 0, 3, false) {
		t.Fatal("guard changed")
	}
	spec := batchSpec{txn: true, pid: 7, seq: 5}
	wantCode(t, appendGuarded(t, l, spec, g, OriginClient), wire.ErrOutOfOrderSequenceNumber)
	// The refusal does not open the way for a second attempt, with a new question or without.
	if g != begin(t, l, 7, 0, 5, false) {
		t.Fatal("guard changed")
	}
	wantCode(t, appendGuarded(t, l, spec, g, OriginClient), wire.ErrOutOfOrderSequenceNumber)
	// Nor does turning verification off: the question is still there.
	l.o.dynamic.verifyTransactions.Store(false)
	wantCode(t, appendGuarded(t, l, spec, NoGuard, OriginClient), wire.ErrOutOfOrderSequenceNumber)
	l.o.dynamic.verifyTransactions.Store(true)
	spec.seq, spec.records = 3, 2
	wantCode(t, appendGuarded(t, l, spec, g, OriginClient), wire.ErrNone)
	spec.seq = 5
	wantCode(t, appendGuarded(t, l, spec, NoGuard, OriginClient), wire.ErrNone)

	l = verifying(t)
	spec.records = 1
	g = begin(t, l, 7, 0, 3, true)
	spec.seq = 3
	wantCode(t, appendGuarded(t, l, spec, g, OriginClient), wire.ErrOutOfOrderSequenceNumber) // version 2 begins at 0
	spec.seq = 0
	wantCode(t, appendGuarded(t, l, spec, g, OriginClient), wire.ErrNone)
	spec.pid, spec.seq = 8, 5
	wantCode(t, appendGuarded(t, l, spec, begin(t, l, 8, 0, 5, false), OriginClient), wire.ErrNone) // version 1 anywhere
}

// A question that is asked again keeps its guard and the lowest sequence of the newest epoch.
func TestVerificationAsksAgain(t *testing.T) {
	l := verifying(t)
	guard := NoGuard
	for _, c := range []struct {
		epoch     id.ProducerEpoch
		seq       int32
		wantEpoch id.ProducerEpoch
		wantSeq   int32
	}{{0, 1, 0, 1}, {0, 0, 0, 0}, {0, 4, 0, 0}, {1, 2, 1, 2}, {0, 0, 1, 2}, {1, 1, 1, 1}} {
		g := begin(t, l, 7, c.epoch, c.seq, true)
		if guard == NoGuard {
			guard = g
		}
		if v := l.producers.verifications[7]; g != guard || v.guard != guard || v.epoch != c.wantEpoch || v.lowestSequence != c.wantSeq {
			t.Fatalf("%+v: guard %d, not %d: %+v", c, g, guard, v)
		}
	}
}

func TestVerificationsExpire(t *testing.T) {
	l := verifying(t)
	g := begin(t, l, 7, 0, 0, false)
	l.expireProducers(l.o.Now().Add(time.Hour-time.Millisecond), time.Hour)
	if g != begin(t, l, 7, 0, 0, false) {
		t.Fatal("gone too early")
	}
	l.expireProducers(l.o.Now().Add(time.Hour), time.Hour)
	wantCode(t, appendGuarded(t, l, batchSpec{txn: true, pid: 7}, g, OriginClient), wire.ErrInvalidTxnState)
	if again := begin(t, l, 7, 0, 0, false); again == g {
		t.Fatal("a guard was given out twice")
	}
}

func TestAbortedTransactions(t *testing.T) {
	c := testConfig()
	c.SegmentBytes = 400
	l := openTest(t, mem(t), c, nil)
	for i := range 20 {
		kind := record.ControlAbort
		if i%3 == 0 {
			kind = record.ControlCommit
		}
		appendTxn(t, l, id.ProducerID(i), 0, 2, kind) // offsets 3i to 3i+2
	}
	if l.Segments() < 5 {
		t.Fatalf("%d segments", l.Segments())
	}
	for from := id.Offset(0); from < 60; from += 7 {
		for upTo := from + 1; upTo <= 60; upTo += 5 {
			got, err := l.AbortedTransactions(from, upTo)
			if err != nil {
				t.Fatal(err)
			}
			have := map[id.ProducerID]bool{}
			for _, a := range got {
				have[a.ProducerID] = true
			}
			for i := range 20 {
				first, marker := id.Offset(3*i), id.Offset(3*i+2)
				if want := i%3 != 0 && marker >= from && first < upTo; want != have[id.ProducerID(i)] {
					t.Fatalf("[%d, %d): producer %d listed %v, want %v", from, upTo, i, !want, want)
				}
			}
		}
	}
}
