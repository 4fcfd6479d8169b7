package record

import "math/bits"

// readVarint reads a zigzag varint of at most five bytes. Bits beyond 32 of the fifth byte are dropped, as Java drops them.
func readVarint(b []byte) (v int32, rest []byte, ok bool) {
	if len(b) > 0 && b[0] < 0x80 { // nearly every length and delta of a real record
		u := uint32(b[0])
		return int32(u>>1) ^ -int32(u&1), b[1:], true
	}
	var u uint32
	for i := 0; i < 5 && i < len(b); i++ {
		c := b[i]
		u |= uint32(c&0x7f) << (7 * i)
		if c < 0x80 {
			return int32(u>>1) ^ -int32(u&1), b[i+1:], true
		}
	}
	return 0, nil, false
}

// readVarlong reads a zigzag varint of at most ten bytes.
func readVarlong(b []byte) (v int64, rest []byte, ok bool) {
	var u uint64
	for i := 0; i < 10 && i < len(b); i++ {
		c := b[i]
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return int64(u>>1) ^ -int64(u&1), b[i+1:], true
		}
	}
	return 0, nil, false
}

func appendVarint(b []byte, v int32) []byte {
	u := uint32(v)<<1 ^ uint32(v>>31)
	for u >= 0x80 {
		b = append(b, byte(u)|0x80)
		u >>= 7
	}
	return append(b, byte(u))
}

func appendVarlong(b []byte, v int64) []byte {
	u := uint64(v)<<1 ^ uint64(v>>63)
	for u >= 0x80 {
		b = append(b, byte(u)|0x80)
		u >>= 7
	}
	return append(b, byte(u))
}

// sizeVarint is how many bytes appendVarint writes.
func sizeVarint(v int32) int { return (bits.Len32(uint32(v)<<1^uint32(v>>31)|1) + 6) / 7 }

// sizeVarlong is how many bytes appendVarlong writes.
func sizeVarlong(v int64) int { return (bits.Len64(uint64(v)<<1^uint64(v>>63)|1) + 6) / 7 }
