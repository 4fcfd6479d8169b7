package record

import (
	"strconv"
)

// Codec is a batch's compression, the low three bits of its attributes.
type Codec int8

// The codecs by their wire numbers.
const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	LZ4    Codec = 3
	Zstd   Codec = 4
)

// codecNames are the names that the config compression.type uses.
var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// Valid reports whether c is a codec Kafka has.
func (c Codec) Valid() bool { return c >= None && c <= Zstd }

// String returns the codec's name as in compression.type.
func (c Codec) String() string {
	if !c.Valid() {
		return "codec(" + strconv.Itoa(int(c)) + ")"
	}
	return codecNames[c]
}

// Compression is a codec with its level.
type Compression struct {
	Codec Codec
	// Level is in the codec's own scale: gzip -1 (default), 1 to 9; lz4 1 to 17, default 9; zstd -131072 to 22, default 3.
	// LevelDefault asks for the codec's default, which is also the only level of snappy.
	Level int
}

// LevelDefault asks for a codec's default level. It is no codec's level, so that the zero Compression is "none".
const LevelDefault = 0
