package log

import (
	"github.com/moldau-io/moldau/internal/record"
)

// appendCopied appends whole batches and entries of another log of the same partition, those of old formats among them, which no
// append takes.
func (l *Log) appendCopied(b []byte, info AppendInfo) error {
	for len(b) > 0 {
		n, old := run(b)
		var err error
		if old {
			err = l.appendLegacy(b[:n])
		} else {
			_, err = l.AppendAsLeader(b[:n], info)
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// run is how many bytes at the beginning are of old formats, or of today's.
func run(b []byte) (n int, old bool) {
	for n < len(b) {
		h, err := parseHeader(b[n:min(len(b), n+headerPeekBytes)], int64(n), int64(len(b)))
		is := err == nil && h.magic < record.Magic
		if n == 0 {
			old = is
		}
		if is != old {
			return n, old
		}
		if err != nil {
			return len(b), false // the append says what is wrong
		}
		n += int(h.size)
	}
	return n, old
}

// appendLegacy appends entries of old formats as they are. A segment never begins with the offset of an entry: that is the last one
// of those in it.
func (l *Log) appendLegacy(b []byte) error {
	if err := l.dir.room(len(b), l.nowMs()); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	c, nowMs := l.cfg.Load(), l.nowMs()
	for len(b) > 0 {
		h, err := parseHeader(b[:min(len(b), headerPeekBytes)], 0, int64(len(b)))
		if err != nil {
			return err
		}
		entry := b[:h.size]
		if err := checkBatch(entry, h); err != nil {
			return err
		}
		if h.base < l.EndOffset() {
			return &UnexpectedOffsetError{TopicPartition: l.tp, FirstOffset: h.base, LastOffset: h.last, LogEnd: l.EndOffset(), LogStart: l.StartOffset()}
		}
		seg, err := l.segmentFor(&record.Validated{Bytes: entry, FirstOffset: l.EndOffset(), LastOffset: h.last, MaxTimestampMs: h.maxTS}, c, nowMs)
		if err != nil {
			return err
		}
		if err := seg.loadMaxTS(); err != nil {
			return l.fault("append to", err)
		}
		if undone, err := seg.write(entry); err != nil {
			if !undone {
				return l.dir.fail("take back an append to", l.tp.String(), err)
			}
			return l.fault("append to", err)
		}
		h.position = seg.size.Load()
		seg.note(h, int64(c.IndexIntervalBytes))
		seg.modifiedMs = nowMs
		seg.size.Store(h.position + h.size)
		l.producers.begin()
		l.afterWrite(seg, h.last+1)
		b = b[h.size:]
	}
	return nil
}
