package image

import (
	"iter"
	"math/bits"
)

// Map is a persistent hash trie: With and Without return a new map that shares all but the changed path with the old one.
// The zero Map cannot be used; NewMap fixes the hash function. Hash functions must be deterministic within one process;
// keys with equal hashes are kept in a list, so a bad hash costs time, never correctness.
//
// Iteration order is that of the hashes: stable for equal contents, without meaning otherwise.
type Map[K comparable, V any] struct {
	root *hnode[K, V]
	size int
	hash func(K) uint64
}

// A node is either a branch (bitmap names which of 32 slots are filled; each filled slot is an entry or a child) or, below
// the last level of hash bits, a plain list of entries (bitmap 0).
type hnode[K comparable, V any] struct {
	bitmap uint32
	slots  []hslot[K, V]
	owner  *edit // who has made the node and may change it until its edit is over; nobody has it afterwards
}

// edit is one batch of changes to a map that nobody else has seen yet: nodes that it has made are changed in place.
type edit struct{ _ byte }

type hslot[K comparable, V any] struct {
	child *hnode[K, V]
	key   K
	value V
}

const (
	hashBitsPerLevel = 5
	hashLevels       = 60
)

// NewMap returns an empty map that hashes keys with hash.
func NewMap[K comparable, V any](hash func(K) uint64) Map[K, V] { return Map[K, V]{hash: hash} }

// Len returns the number of entries.
func (m Map[K, V]) Len() int { return m.size }

// Get returns the value of key.
func (m Map[K, V]) Get(key K) (value V, ok bool) {
	n := m.root
	if n == nil {
		return value, false
	}
	h := m.hash(key)
	for shift := 0; ; shift += hashBitsPerLevel {
		if shift >= hashLevels {
			for i := range n.slots {
				if n.slots[i].key == key {
					return n.slots[i].value, true
				}
			}
			return value, false
		}
		bit := uint32(1) << (h >> shift & 31)
		if n.bitmap&bit == 0 {
			return value, false
		}
		s := &n.slots[bits.OnesCount32(n.bitmap&(bit-1))]
		if s.child == nil {
			if s.key == key {
				return s.value, true
			}
			return value, false
		}
		n = s.child
	}
}

// With returns the map in which key has value.
func (m Map[K, V]) With(key K, value V) Map[K, V] { return m.withIn(nil, key, value) }

// withIn is With as part of an edit: m and every map that the edit made before are used up.
func (m Map[K, V]) withIn(by *edit, key K, value V) Map[K, V] {
	root, added := m.insert(by, m.root, m.hash(key), 0, key, value)
	m.root = root
	if added {
		m.size++
	}
	return m
}

// Without returns the map that has no key.
func (m Map[K, V]) Without(key K) Map[K, V] {
	if m.root == nil {
		return m
	}
	root, removed := m.remove(m.root, m.hash(key), 0, key)
	if removed {
		m.root = root
		m.size--
	}
	return m
}

// All iterates over the entries in hash order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.root != nil {
			m.root.walk(yield)
		}
	}
}

func (n *hnode[K, V]) walk(yield func(K, V) bool) bool {
	for i := range n.slots {
		s := &n.slots[i]
		if s.child != nil {
			if !s.child.walk(yield) {
				return false
			}
		} else if !yield(s.key, s.value) {
			return false
		}
	}
	return true
}

func (m Map[K, V]) insert(by *edit, n *hnode[K, V], h uint64, shift int, key K, value V) (*hnode[K, V], bool) {
	if n == nil {
		n = &hnode[K, V]{owner: by}
	}
	if shift >= hashLevels {
		for i := range n.slots {
			if n.slots[i].key == key {
				return n.replace(by, i, hslot[K, V]{key: key, value: value}), false
			}
		}
		return n.add(by, len(n.slots), 0, hslot[K, V]{key: key, value: value}), true
	}
	bit := uint32(1) << (h >> shift & 31)
	pos := bits.OnesCount32(n.bitmap & (bit - 1))
	if n.bitmap&bit == 0 {
		return n.add(by, pos, bit, hslot[K, V]{key: key, value: value}), true
	}
	s := n.slots[pos]
	switch {
	case s.child != nil:
		child, added := m.insert(by, s.child, h, shift+hashBitsPerLevel, key, value)
		if child == s.child {
			return n, added // changed in place
		}
		return n.replace(by, pos, hslot[K, V]{child: child}), added
	case s.key == key:
		return n.replace(by, pos, hslot[K, V]{key: key, value: value}), false
	default:
		child, _ := m.insert(by, nil, m.hash(s.key), shift+hashBitsPerLevel, s.key, s.value)
		child, _ = m.insert(by, child, h, shift+hashBitsPerLevel, key, value)
		return n.replace(by, pos, hslot[K, V]{child: child}), true
	}
}

func (m Map[K, V]) remove(n *hnode[K, V], h uint64, shift int, key K) (*hnode[K, V], bool) {
	if shift >= hashLevels {
		for i := range n.slots {
			if n.slots[i].key == key {
				return n.drop(i, 0), true
			}
		}
		return n, false
	}
	bit := uint32(1) << (h >> shift & 31)
	if n.bitmap&bit == 0 {
		return n, false
	}
	pos := bits.OnesCount32(n.bitmap & (bit - 1))
	s := n.slots[pos]
	if s.child == nil {
		if s.key != key {
			return n, false
		}
		return n.drop(pos, bit), true
	}
	child, removed := m.remove(s.child, h, shift+hashBitsPerLevel, key)
	if !removed {
		return n, false
	}
	switch {
	case child == nil:
		return n.drop(pos, bit), true
	case len(child.slots) == 1 && child.slots[0].child == nil:
		return n.replace(nil, pos, child.slots[0]), true // a lone entry moves up, so that equal contents have equal shapes
	default:
		return n.replace(nil, pos, hslot[K, V]{child: child}), true
	}
}

func (n *hnode[K, V]) replace(by *edit, pos int, s hslot[K, V]) *hnode[K, V] {
	if by != nil && n.owner == by {
		n.slots[pos] = s
		return n
	}
	slots := make([]hslot[K, V], len(n.slots))
	copy(slots, n.slots)
	slots[pos] = s
	return &hnode[K, V]{bitmap: n.bitmap, slots: slots, owner: by}
}

func (n *hnode[K, V]) add(by *edit, pos int, bit uint32, s hslot[K, V]) *hnode[K, V] {
	slots := make([]hslot[K, V], len(n.slots)+1)
	copy(slots, n.slots[:pos])
	slots[pos] = s
	copy(slots[pos+1:], n.slots[pos:])
	return &hnode[K, V]{bitmap: n.bitmap | bit, slots: slots, owner: by}
}

func (n *hnode[K, V]) drop(pos int, bit uint32) *hnode[K, V] {
	if len(n.slots) == 1 {
		return nil
	}
	slots := make([]hslot[K, V], len(n.slots)-1)
	copy(slots, n.slots[:pos])
	copy(slots[pos:], n.slots[pos+1:])
	return &hnode[K, V]{bitmap: n.bitmap &^ bit, slots: slots}
}

// HashString and HashUUID are the hash functions of this package's maps (FNV-1a with a final mix; the random half of an id).
func HashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// HashUUID hashes an id.
func HashUUID(u [16]byte) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < 16; i += 8 {
		w := uint64(u[i])<<56 | uint64(u[i+1])<<48 | uint64(u[i+2])<<40 | uint64(u[i+3])<<32 |
			uint64(u[i+4])<<24 | uint64(u[i+5])<<16 | uint64(u[i+6])<<8 | uint64(u[i+7])
		h = mix(h ^ w)
	}
	return h
}

func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
