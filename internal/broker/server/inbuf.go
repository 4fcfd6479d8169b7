package server

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"
)

// frameRef is a frame inside a slab; dropping it gives the memory back.
type frameRef struct {
	slab  *slab
	bytes []byte // after the length field
}

func (f *frameRef) drop() {
	if s := f.slab; s != nil {
		f.slab, f.bytes = nil, nil
		s.release()
	}
}

// frameError says that the peer does not speak our framing.
type frameError struct {
	size  int64
	limit int
	head  [4]byte
}

func (e *frameError) Error() string {
	switch {
	case e.head[0] == 0x16 && e.head[1] == 0x03:
		return "this looks like a TLS handshake on a plaintext listener"
	case printable(e.head):
		return fmt.Sprintf("not a Kafka request: the connection begins with %q", string(e.head[:]))
	case e.size < 0:
		return fmt.Sprintf("invalid receive size %d", e.size)
	default:
		return fmt.Sprintf("invalid receive size %d: larger than socket.request.max.bytes (%d)", e.size, e.limit)
	}
}

func printable(b [4]byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// inbuf is the inbound side of a connection: bytes arrive at the end of a slab, frames leave at its beginning. Its owner is the
// reader goroutine.
//
// A frame is never announced into memory: the buffer grows, at most fourfold each time, only when what it has is full. A
// connection whose last frames were large begins with a slab of that size, so that steady traffic is read without copying.
type inbuf struct {
	mem   *Memory
	slab  *slab
	r, w  int // slab.b[r:w] has arrived and is not yet taken
	hint  int // size of the last frame, for the next slab
	limit int
	first bool // no frame has been taken yet

	// What shed wants to know; written by the reader, read by anybody.
	begun atomic.Int64 // when the unfinished frame began, or last got memory, in Unix nanoseconds; 0: there is none
	have  atomic.Int64 // how many of its bytes are here
	waits atomic.Bool  // the reader waits for memory: the stand-still is not the peer's fault
}

// next takes a whole frame if one has arrived. Otherwise it returns false and the number of bytes (length field included) that
// the frame under way needs, 0 if it is not known yet. arrived is when the last bytes came.
func (in *inbuf) next(arrived time.Time) (f frameRef, need int, ok bool, err error) {
	have := in.w - in.r
	if have < 4 {
		return frameRef{}, 0, false, nil
	}
	head := in.slab.b[in.r:]
	size := int32(binary.BigEndian.Uint32(head))
	if size < 0 || int(size) > in.limit {
		e := &frameError{size: int64(size), limit: in.limit}
		if in.first {
			copy(e.head[:], head)
		}
		return frameRef{}, 0, false, e
	}
	need = 4 + int(size)
	if have < need {
		return frameRef{}, need, false, nil
	}
	f = frameRef{slab: in.slab, bytes: in.slab.b[in.r+4 : in.r+need : in.r+need]}
	in.slab.retain()
	in.r += need
	in.hint = need
	in.first = false
	in.begun.Store(0)
	if in.w > in.r {
		in.begun.Store(arrived.UnixNano())
	}
	in.have.Store(int64(in.w - in.r))
	return f, need, true, nil
}

// more reports whether another whole frame has arrived.
func (in *inbuf) more() bool {
	have := in.w - in.r
	if have < 4 {
		return false
	}
	size := int32(binary.BigEndian.Uint32(in.slab.b[in.r:]))
	return size >= 0 && int(size) <= in.limit && have-4 >= int(size)
}

// bulk is the frame size from which a read stops at the end of its frame: what it took of the next one would be copied.
const bulk = 16 << 10

// space returns where to read the next bytes of a frame that needs need bytes in all (0: not known). It may wait for memory.
func (in *inbuf) space(need int, stop <-chan struct{}) ([]byte, error) {
	if in.slab == nil {
		return in.grow(need, 0, stop)
	}
	if in.w == in.r && in.slab.refs.Load() == 1 {
		in.r, in.w = 0, 0 // nobody else looks at it: begin again
	}
	size := len(in.slab.b)
	fits := in.r+max(need, 4) <= size
	if in.w == size || !fits && in.r > 0 {
		return in.grow(need, in.w-in.r, stop)
	}
	end := size
	if expect := max(need, in.hint); expect > bulk && (need == 0 || need > bulk) {
		if need > 0 {
			expect = need
		}
		end = max(min(end, in.r+expect), in.w+1)
	}
	return in.slab.b[in.w:end], nil
}

func (in *inbuf) grow(need, have int, stop <-chan struct{}) ([]byte, error) {
	var s *slab
	if hint := min(in.hint, 2<<20); have < minSlab && hint > minSlab && (need == 0 || need > have) {
		s = in.mem.tryGet(max(hint, have+1))
	}
	if s == nil {
		want := max(minSlab, 4*have)
		if need > 0 {
			want = min(want, max(need, minSlab))
			if need <= 2*want {
				want = need // rather than to hold both a nearly sufficient slab and the next one
			}
		}
		if want <= have { // a whole small frame's worth has arrived without completing it
			want = have + minSlab
		}
		if s = in.mem.tryGet(want); s == nil {
			in.waits.Store(true)
			var err error
			s, err = in.mem.get(want, stop)
			in.begun.Store(time.Now().UnixNano()) // the peer's pace counts from here
			in.waits.Store(false)
			if err != nil {
				return nil, err
			}
		}
	}
	if in.slab != nil {
		copy(s.b, in.slab.b[in.r:in.w])
		in.slab.release()
	}
	in.slab, in.r, in.w = s, 0, have
	return in.space(need, stop)
}

// filled notes that n bytes were read into the last space.
func (in *inbuf) filled(n int, now time.Time) {
	if in.w == in.r && n > 0 {
		in.begun.Store(now.UnixNano())
	}
	in.w += n
	in.have.Store(int64(in.w - in.r))
}

// rest gives the slab back if nothing unread is in it, so that an idle connection holds no buffer.
func (in *inbuf) rest() {
	if in.slab != nil && in.r == in.w {
		in.slab.release()
		in.slab, in.r, in.w = nil, 0, 0
	}
}

func (in *inbuf) close() {
	if in.slab != nil {
		in.slab.release()
		in.slab, in.r, in.w = nil, 0, 0
	}
}
