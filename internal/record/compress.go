package record

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Levels that Kafka's configs compression.gzip.level, compression.lz4.level and compression.zstd.level accept.
const (
	gzipMaxLevel    = 9
	lz4DefaultLevel = 9
	lz4MaxLevel     = 17
	zstdDefault     = 3
	zstdMinLevel    = -131072
	zstdMaxLevel    = 22
)

// Check reports a codec or a level that does not exist.
func (c Compression) Check() error {
	ok := true
	switch c.Codec {
	case None, Snappy:
	case Gzip:
		ok = c.Level >= -1 && c.Level <= gzipMaxLevel
	case LZ4:
		ok = c.Level >= 0 && c.Level <= lz4MaxLevel
	case Zstd:
		ok = c.Level >= zstdMinLevel && c.Level <= zstdMaxLevel
	default:
		return &UnknownCodecError{Codec: c.Codec}
	}
	if !ok {
		return fmt.Errorf("%s doesn't support given compression level: %d", c.Codec, c.Level)
	}
	return nil
}

// Pools of compressors by codec and level, caches without meaning.
var (
	gzipWriters [gzipMaxLevel + 1]sync.Pool // 0 is the default level
	zstdWriters [zstd.SpeedBestCompression + 1]sync.Pool
	lz4Fast     = sync.Pool{New: func() any { return new(lz4.Compressor) }}
	lz4Slow     = sync.Pool{New: func() any { return new(lz4.CompressorHC) }}
	blockBufs   = sync.Pool{New: func() any { b := make([]byte, lz4.CompressBlockBound(lz4BlockBytes)); return &b }}
)

// compress appends src, compressed, to dst.
func compress(dst, src []byte, c Compression) ([]byte, error) {
	if err := c.Check(); err != nil {
		return dst, err
	}
	switch c.Codec {
	case Gzip:
		return compressGzip(dst, src, c.Level)
	case Snappy:
		return compressSnappy(dst, src), nil
	case LZ4:
		return compressLZ4(dst, src, c.Level)
	case Zstd:
		return compressZstd(dst, src, c.Level)
	}
	return append(dst, src...), nil
}

// sink is an io.Writer that appends.
type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

func compressGzip(dst, src []byte, level int) ([]byte, error) {
	slot := max(level, 0)
	w, _ := gzipWriters[slot].Get().(*gzip.Writer)
	if w == nil {
		if level <= 0 {
			level = gzip.DefaultCompression
		}
		var err error
		if w, err = gzip.NewWriterLevel(io.Discard, level); err != nil {
			return dst, fmt.Errorf("gzip: %w", err)
		}
	}
	out := sink{dst}
	w.Reset(&out)
	_, err := w.Write(src)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return dst, fmt.Errorf("gzip: %w", err)
	}
	w.Reset(io.Discard)
	gzipWriters[slot].Put(w)
	return out.b, nil
}

func compressSnappy(dst, src []byte) []byte {
	buf := blockBufs.Get().(*[]byte)
	defer blockBufs.Put(buf)
	dst = append(append(dst, xerialMagic...), xerialVersions...)
	for len(src) > 0 {
		n := min(len(src), xerialBlockBytes)
		block := s2.EncodeSnappy(*buf, src[:n])
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(block)))
		dst = append(dst, block...)
		src = src[n:]
	}
	return dst
}

// compressLZ4 writes a frame as Java's producer does: independent blocks of 64 KB, no checksums but the header's.
func compressLZ4(dst, src []byte, level int) ([]byte, error) {
	buf := blockBufs.Get().(*[]byte)
	defer blockBufs.Put(buf)
	var block func(src, dst []byte) (int, error)
	if level == LevelDefault || level == lz4DefaultLevel {
		z := lz4Fast.Get().(*lz4.Compressor)
		defer lz4Fast.Put(z)
		block = z.CompressBlock
	} else {
		z := lz4Slow.Get().(*lz4.CompressorHC)
		defer lz4Slow.Put(z)
		z.Level = lz4.Level1 << (min(level, 9) - 1)
		block = z.CompressBlock
	}
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, lz4Magic)
	dst = append(dst, lz4FlagVersion|lz4FlagIndependent, lz4BlockCode<<4)
	dst = append(dst, byte(xxh32(dst[start+4:])>>8))
	for len(src) > 0 {
		n := min(len(src), lz4BlockBytes)
		k, err := block(src[:n], *buf)
		if err != nil {
			return dst[:start], fmt.Errorf("lz4: %w", err)
		}
		if k == 0 || k >= n {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(n)|lz4Stored)
			dst = append(dst, src[:n]...)
		} else {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(k))
			dst = append(dst, (*buf)[:k]...)
		}
		src = src[n:]
	}
	return binary.LittleEndian.AppendUint32(dst, 0), nil
}

func compressZstd(dst, src []byte, level int) ([]byte, error) {
	if level == LevelDefault {
		level = zstdDefault
	}
	speed := zstd.EncoderLevelFromZstd(level)
	z, _ := zstdWriters[speed].Get().(*zstd.Encoder)
	if z == nil {
		var err error
		z, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
			zstd.WithEncoderLevel(speed), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true))
		if err != nil {
			return dst, fmt.Errorf("zstd: %w", err)
		}
	}
	dst = z.EncodeAll(src, dst)
	zstdWriters[speed].Put(z)
	return dst, nil
}
