package log

import (
	"cmp"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// cleanedTxns follows the transactions of a log while its batches are read in order: which data was aborted, and which markers no
// longer have data before them.
type cleanedTxns struct {
	committed map[id.ProducerID]bool // transactions with data seen, as far as known not aborted
	aborting  map[id.ProducerID]*abortingTxn
	coming    []AbortedTxn     // aborted ones whose beginning was not reached, by first offset
	kept      func(AbortedTxn) // gets the aborted transactions of which something is left; nil: nobody asks
}

type abortingTxn struct {
	AbortedTxn
	dataSeen bool
}

func newCleanedTxns() *cleanedTxns {
	return &cleanedTxns{committed: map[id.ProducerID]bool{}, aborting: map[id.ProducerID]*abortingTxn{}}
}

// add says which aborted transactions overlap what is read next. One that was said before changes nothing.
func (c *cleanedTxns) add(aborted []AbortedTxn) {
	if len(aborted) == 0 {
		return
	}
	c.coming = append(c.coming, aborted...)
	slices.SortStableFunc(c.coming, func(a, b AbortedTxn) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
}

// reach begins the aborted transactions up to an offset.
func (c *cleanedTxns) reach(offset id.Offset) {
	n := 0
	for ; n < len(c.coming) && c.coming[n].FirstOffset <= offset; n++ {
		t := c.coming[n]
		if c.aborting[t.ProducerID] == nil {
			c.aborting[t.ProducerID] = &abortingTxn{AbortedTxn: t}
		}
	}
	c.coming = c.coming[n:]
}

// data visits a data batch: true when it belongs to an aborted transaction, and nobody may read it.
func (c *cleanedTxns) data(b record.Batch) (aborted bool) {
	c.reach(b.LastOffset())
	if !b.IsTransactional() {
		return false
	}
	if t := c.aborting[b.ProducerID()]; t != nil {
		t.dataSeen = true
		return true
	}
	c.committed[b.ProducerID()] = true
	return false
}

// control visits a control batch: true when its transaction has no data left, so that the marker says nothing to anybody.
func (c *cleanedTxns) control(b record.Batch) (empty bool, err error) {
	c.reach(b.LastOffset())
	it := b.Records(controlBatchLimit)
	defer it.Close()
	var r record.Record
	if !it.Next(&r) {
		return true, it.Err() // the marker itself was removed before
	}
	kind, err := record.ParseControlKey(r.Key)
	if err != nil {
		return false, err
	}
	pid := b.ProducerID()
	switch kind {
	case record.ControlAbort:
		t := c.aborting[pid]
		delete(c.aborting, pid)
		if t == nil || !t.dataSeen {
			return true, nil
		}
		if c.kept != nil {
			c.kept(t.AbortedTxn)
		}
		return false, nil
	case record.ControlCommit:
		seen := c.committed[pid]
		delete(c.committed, pid)
		return !seen, nil
	}
	return false, nil
}
