package log

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/moldau-io/moldau/internal/base/id"
)

// keyMap remembers the last offset of every key in the dirty part of a log. It keeps 16 bytes of a key's SHA-256 in its place:
// that keys fall together, on purpose or by chance, is out of the question, and the memory of a key does not depend on its size.
// A cleaner's pass makes one and drops it.
type keyMap struct {
	slots  []keySlot
	room   int64 // slots that the memory allows; fewer are made when fewer keys can come
	used   int
	most   int       // keys it takes
	latest id.Offset // last offset that was looked at; -1 for none
	hash   hash.Hash
	sum    [sha256.Size]byte
}

type keySlot struct {
	key  [16]byte
	next id.Offset // the offset after the key's last one, 0 when the slot is free
}

const keySlotBytes = 24

// newKeyMap makes a map of at most limitBytes that takes load of its slots, or as many keys as are wanted when those are fewer.
func newKeyMap(limitBytes int64, load float64, wanted int64) *keyMap {
	room := max(limitBytes/keySlotBytes, 4)
	slots := room
	most := max(int64(float64(slots)*load), 1)
	if wanted < most {
		most = max(wanted, 1)
		slots = min(slots, int64(float64(most)/load)+2)
	}
	return &keyMap{slots: make([]keySlot, slots), room: room, most: int(min(most, slots-1)), latest: id.NoOffset, hash: sha256.New()}
}

// find returns the key's slot, or the free one where it belongs.
func (m *keyMap) find(key []byte) (*keySlot, [16]byte) {
	m.hash.Reset()
	m.hash.Write(key)
	h := [16]byte(m.hash.Sum(m.sum[:0]))
	n := uint64(len(m.slots))
	for at := binary.LittleEndian.Uint64(h[:]) % n; ; at++ {
		if at == n {
			at = 0
		}
		if s := &m.slots[at]; s.next == 0 || s.key == h {
			return s, h
		}
	}
}

// put notes an offset that is above those before it. False says that the map is full: a known key is not taken then either,
// because what is not mapped as a whole is cleaned another time.
func (m *keyMap) put(key []byte, offset id.Offset) bool {
	if m.used >= m.most {
		return false
	}
	s, h := m.find(key)
	if s.next == 0 {
		s.key = h
		m.used++
	}
	s.next = offset + 1
	m.seen(offset)
	return true
}

// seen notes that everything up to offset is in the map.
func (m *keyMap) seen(offset id.Offset) { m.latest = max(m.latest, offset) }

// last is the last offset of a key, -1 if it is not in the map.
func (m *keyMap) last(key []byte) id.Offset {
	s, _ := m.find(key)
	return s.next - 1
}

// utilization is how much of the memory that a map may have would be used: at the load factor the log needed another pass.
func (m *keyMap) utilization() float64 { return float64(m.used) / float64(m.room) }
