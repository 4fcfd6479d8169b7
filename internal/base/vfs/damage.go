package vfs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

// Damage is what has become of a file at rest.
type Damage struct {
	Name  string // "away", "empty", "cut to ...", "bit flip at ...", "zeros ...", "another first byte" or "stale copy"
	Bytes []byte // nil: it is away
}

// Thoroughness says how many damages there are.
type Thoroughness struct {
	CutFrom, CutEvery int // the lengths to which a file is cut
	Flips             int // bits that are flipped, about, spread over the file
}

// Damages are the ways in which a file with these bytes may come to be another one. stale is what it was some time ago, or nil.
func Damages(b, stale []byte, how Thoroughness, rng *rand.Rand) []Damage {
	out := []Damage{{"away", nil}, {"empty", []byte{}}}
	for n := how.CutFrom; n < len(b); n += how.CutEvery {
		out = append(out, Damage{fmt.Sprintf("cut to %d of %d bytes", n, len(b)), b[:n]})
	}
	step := 1 + len(b)/how.Flips
	for at := rng.IntN(step); at < len(b); at += step {
		flipped := bytes.Clone(b)
		flipped[at] ^= 1 << rng.IntN(8)
		out = append(out, Damage{fmt.Sprintf("bit flip at %d of %d", at, len(b)), flipped})
	}
	const page = 512 // of a disk
	for at := 0; at < len(b); at += page {
		zero := bytes.Clone(b)
		clear(zero[at:min(at+page, len(b))])
		out = append(out, Damage{fmt.Sprintf("zeros from %d of %d", at, len(b)), zero})
	}
	out = append(out, Damage{"zeros behind the end", append(bytes.Clone(b), make([]byte, 600)...)})
	if len(b) > 0 {
		version := bytes.Clone(b)
		version[0] ^= 9 // a text file's version, a snapshot's
		out = append(out, Damage{"another first byte", version})
	}
	if stale != nil && !bytes.Equal(stale, b) {
		out = append(out, Damage{"stale copy", stale})
	}
	return out
}
