package shard

import "time"

// Deadlines is a set of keys, each with one deadline and what to remember with it: a binary heap with an index. Setting a key
// again replaces its deadline. Equal deadlines come out in the order they were set.
type Deadlines[K comparable, V any] struct {
	heap  []deadline[K, V]
	index map[K]int
	count uint64 // of Set calls, for the order among equals
}

type deadline[K comparable, V any] struct {
	key   K
	value V
	at    time.Time
	order uint64
}

// Len returns how many keys have a deadline.
func (d *Deadlines[K, V]) Len() int { return len(d.heap) }

// Set gives key a deadline.
func (d *Deadlines[K, V]) Set(key K, at time.Time, value V) {
	d.count++
	e := deadline[K, V]{key: key, value: value, at: at, order: d.count}
	if i, ok := d.index[key]; ok {
		d.heap[i] = e
		d.fix(i)
		return
	}
	if d.index == nil {
		d.index = make(map[K]int)
	}
	d.heap = append(d.heap, e)
	d.index[key] = len(d.heap) - 1
	d.up(len(d.heap) - 1)
}

// Cancel takes key's deadline away, if it has one.
func (d *Deadlines[K, V]) Cancel(key K) {
	if i, ok := d.index[key]; ok {
		d.removeAt(i)
	}
}

// Has reports whether key has a deadline.
func (d *Deadlines[K, V]) Has(key K) bool {
	_, ok := d.index[key]
	return ok
}

// Next returns the earliest deadline; ok is false if there is none.
func (d *Deadlines[K, V]) Next() (at time.Time, ok bool) {
	if len(d.heap) == 0 {
		return time.Time{}, false
	}
	return d.heap[0].at, true
}

// Pop removes and returns the earliest key whose deadline is not after now; ok is false if none is due.
func (d *Deadlines[K, V]) Pop(now time.Time) (key K, value V, ok bool) {
	if len(d.heap) == 0 || d.heap[0].at.After(now) {
		return key, value, false
	}
	e := d.heap[0]
	d.removeAt(0)
	return e.key, e.value, true
}

func (d *Deadlines[K, V]) removeAt(i int) {
	last := len(d.heap) - 1
	delete(d.index, d.heap[i].key)
	if i != last {
		d.heap[i] = d.heap[last]
		d.index[d.heap[i].key] = i
	}
	d.heap[last] = deadline[K, V]{}
	d.heap = d.heap[:last]
	if i != last {
		d.fix(i)
	}
}

func (d *Deadlines[K, V]) fix(i int) {
	if !d.down(i) {
		d.up(i)
	}
}

func (d *Deadlines[K, V]) less(i, j int) bool {
	a, b := &d.heap[i], &d.heap[j]
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	return a.order < b.order
}

func (d *Deadlines[K, V]) swap(i, j int) {
	d.heap[i], d.heap[j] = d.heap[j], d.heap[i]
	d.index[d.heap[i].key], d.index[d.heap[j].key] = i, j
}

func (d *Deadlines[K, V]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !d.less(i, parent) {
			return
		}
		d.swap(i, parent)
		i = parent
	}
}

func (d *Deadlines[K, V]) down(i int) (moved bool) {
	for {
		child := 2*i + 1
		if child >= len(d.heap) {
			return moved
		}
		if r := child + 1; r < len(d.heap) && d.less(r, child) {
			child = r
		}
		if !d.less(child, i) {
			return moved
		}
		d.swap(i, child)
		i, moved = child, true
	}
}
