package shard

import "time"

// Deadlines is a set of keys, each with one deadline and what to remember with it. Setting a key again replaces its deadline. Equal
// deadlines come out in the order they were set.
//
// It is a binary heap with an index. A deadline that is put off, as those of sessions are with every sign of life, stays where it
// is in the heap until it comes to the top, and only then sinks to its place: putting off costs a look at the index.
type Deadlines[K comparable, V any] struct {
	heap  []*deadline[K, V]
	index map[K]*deadline[K, V]
	base  time.Time // times in the heap are counted from here
	count uint64    // of Set calls, for the order among equals
}

type deadline[K comparable, V any] struct {
	key    K
	value  V
	due    moment
	queued moment // for which it has its place in the heap; not after due
	at     int32  // that place
}

// moment is a time, with an order among equal ones.
type moment struct {
	at    time.Duration
	order uint64
}

func (m moment) before(o moment) bool { return m.at < o.at || m.at == o.at && m.order < o.order }

// Len returns how many keys have a deadline.
func (d *Deadlines[K, V]) Len() int { return len(d.heap) }

// Set gives key a deadline.
func (d *Deadlines[K, V]) Set(key K, at time.Time, value V) {
	if d.index == nil {
		d.index, d.base = make(map[K]*deadline[K, V]), at
	}
	d.count++
	due := moment{at.Sub(d.base), d.count}
	e := d.index[key]
	if e == nil {
		e = &deadline[K, V]{key: key, value: value, due: due, queued: due, at: int32(len(d.heap))}
		d.index[key] = e
		d.heap = append(d.heap, e)
		d.up(e)
		return
	}
	e.value, e.due = value, due
	if due.before(e.queued) {
		e.queued = due
		d.up(e)
	}
}

// Cancel takes key's deadline away, if it has one.
func (d *Deadlines[K, V]) Cancel(key K) {
	if e := d.index[key]; e != nil {
		d.remove(e)
	}
}

// Has reports whether key has a deadline.
func (d *Deadlines[K, V]) Has(key K) bool { return d.index[key] != nil }

// Next returns the earliest deadline; ok is false if there is none.
func (d *Deadlines[K, V]) Next() (at time.Time, ok bool) {
	e := d.first()
	if e == nil {
		return time.Time{}, false
	}
	return d.base.Add(e.due.at), true
}

// Pop removes and returns the earliest key whose deadline is not after now; ok is false if none is due.
func (d *Deadlines[K, V]) Pop(now time.Time) (key K, value V, ok bool) {
	e := d.first()
	if e == nil || e.due.at > now.Sub(d.base) {
		return key, value, false
	}
	d.remove(e)
	return e.key, e.value, true
}

// first returns the earliest deadline, or nil.
func (d *Deadlines[K, V]) first() *deadline[K, V] {
	if len(d.heap) == 0 {
		return nil
	}
	for {
		e := d.heap[0]
		if e.queued == e.due {
			return e
		}
		e.queued = e.due
		d.down(e)
	}
}

func (d *Deadlines[K, V]) remove(e *deadline[K, V]) {
	delete(d.index, e.key)
	last := len(d.heap) - 1
	moved := d.heap[last]
	d.heap[last] = nil
	d.heap = d.heap[:last]
	if moved == e {
		return
	}
	moved.at = e.at
	d.heap[moved.at] = moved
	d.down(moved)
	d.up(moved)
}

// up and down move e to where it belongs.
func (d *Deadlines[K, V]) up(e *deadline[K, V]) {
	i := e.at
	for i > 0 {
		parent := d.heap[(i-1)/2]
		if !e.queued.before(parent.queued) {
			break
		}
		d.heap[i], parent.at, i = parent, i, (i-1)/2
	}
	d.heap[i], e.at = e, i
}

func (d *Deadlines[K, V]) down(e *deadline[K, V]) {
	i, n := e.at, int32(len(d.heap))
	for 2*i+1 < n {
		c := 2*i + 1
		if c+1 < n && d.heap[c+1].queued.before(d.heap[c].queued) {
			c++
		}
		child := d.heap[c]
		if !child.queued.before(e.queued) {
			break
		}
		d.heap[i], child.at, i = child, i, c
	}
	d.heap[i], e.at = e, i
}
