package quorum

import (
	"fmt"
	"runtime/debug"
)

// guard calls f and turns a panic into an error that says where it was.
func guard[T any](f func() (T, error)) (out T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// mistrust ends the leadership of a controller whose decision has panicked: nobody knows what it left half done. It rebuilds
// itself from the log before it leads again, as Kafka's does after a fault.
func (d *driver) mistrust(err error) {
	d.o.Logger.Error("a decision of the controller failed; it leaves office", "err", err)
	d.raft.Resign(d.o.Now())
}

// tell gives an outcome to who waits for it. What they do with it is not the quorum's to suffer from.
func (q *Quorum) tell(done func(Outcome), o Outcome) {
	if _, err := guard(func() (struct{}, error) { done(o); return struct{}{}, nil }); err != nil {
		q.o.Logger.Error("an answer of the controller could not be given", "err", err)
	}
}

// give is tell for a Reply.
func (q *Quorum) give(done func(Reply), r Reply) {
	if _, err := guard(func() (struct{}, error) { done(r); return struct{}{}, nil }); err != nil {
		q.o.Logger.Error("an answer of the quorum could not be given", "err", err)
	}
}
