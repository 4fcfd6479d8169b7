package wire

import (
	"strings"
	"unicode/utf8"
)

// javaString decodes b as Java's String constructor does for UTF-8: valid sequences as they are, and one U+FFFD for each
// ill-formed piece. A piece is the longest start of a sequence that could still have become valid; an encoded surrogate is one
// piece of three bytes. It is for input already known to be invalid.
func javaString(b []byte) string {
	var out strings.Builder
	out.Grow(3 * len(b)) // every byte may become U+FFFD, three bytes long
	for len(b) > 0 {
		if c, n := utf8.DecodeRune(b); c != utf8.RuneError || n > 1 {
			out.Write(b[:n])
			b = b[n:]
			continue
		}
		out.WriteRune(utf8.RuneError)
		b = b[malformed(b):]
	}
	return out.String()
}

// malformed returns the length of the ill-formed piece at the start of b.
func malformed(b []byte) int {
	at := func(i int, lo, hi byte) bool { return i < len(b) && b[i] >= lo && b[i] <= hi }
	switch c := b[0]; {
	case c == 0xed && at(1, 0xa0, 0xbf):
		switch {
		case at(2, 0x80, 0xbf):
			return 3
		case len(b) > 2:
			return 2
		}
		return len(b)
	case c >= 0xe0 && c <= 0xef:
		lo := byte(0x80)
		if c == 0xe0 {
			lo = 0xa0
		}
		if at(1, lo, 0xbf) {
			return 2
		}
	case c >= 0xf0 && c <= 0xf4:
		lo, hi := byte(0x80), byte(0xbf)
		if c == 0xf0 {
			lo = 0x90
		} else if c == 0xf4 {
			hi = 0x8f
		}
		if !at(1, lo, hi) {
			return 1
		}
		if at(2, 0x80, 0xbf) {
			return 3
		}
		return 2
	}
	return 1
}
