package record

// walkPlain is walk for the common case: an uncompressed batch whose records are all in order. It looks at each byte that
// matters once and fills no Record. false means that something is unusual, and that walk must look again and say what.
func (w *walker) walkPlain(b Batch, o *ValidateOptions) bool {
	if b.Codec() != None || b.TimestampType() == LogAppendTime {
		return false
	}
	p := b.Payload()
	base, count := b.BaseTimestamp(), b.Count()
	// The timestamps that pass, as a range; without the check everything passes. Sums that overflow make it empty, and then
	// walk decides.
	low, high := o.NowMs-o.TimestampBeforeMs, o.NowMs+o.TimestampAfterMs
	checkTime := o.TimestampType == CreateTime
	if checkTime && high < o.NowMs {
		return false
	}
	maxTS := NoTimestamp
	i := 0
	for n := int32(0); n < count; n++ {
		at := i
		var size uint64
		if at < len(p) && p[at] < 0x80 {
			size, at = uint64(p[at]), at+1
		} else if size, at = uvarintLong(p, at); at < 0 {
			return false
		}
		if size&1 != 0 || size>>1 > uint64(len(p)-at) {
			return false
		}
		end := at + int(size>>1)
		r := p[:end]
		at++ // the attributes, which mean nothing
		var tsDelta uint64
		if at < len(r) && r[at] < 0x80 {
			tsDelta, at = uint64(r[at]), at+1
		} else if tsDelta, at = uvarintLong(r, at); at < 0 {
			return false
		}
		ts := base + (int64(tsDelta>>1) ^ -int64(tsDelta&1))
		var offset uint64
		if at < len(r) && r[at] < 0x80 {
			offset, at = uint64(r[at]), at+1
		} else if offset, at = uvarintLong(r, at); at < 0 {
			return false
		}
		if offset != uint64(n)<<1 {
			return false
		}
		if checkTime && ts != NoTimestamp && (ts < low || ts > high) {
			return false
		}
		maxTS = max(maxTS, ts)
		var key uint64
		if at < len(r) && r[at] < 0x80 {
			key, at = uint64(r[at]), at+1
		} else if key, at = uvarintLong(r, at); at < 0 {
			return false
		}
		if key&1 != 0 && (o.Compacted || key != 1) {
			return false
		}
		if key&1 == 0 {
			if key>>1 > uint64(end-at) {
				return false
			}
			at += int(key >> 1)
		}
		var value uint64
		if at < len(r) && r[at] < 0x80 {
			value, at = uint64(r[at]), at+1
		} else if value, at = uvarintLong(r, at); at < 0 {
			return false
		}
		if value&1 != 0 && value != 1 {
			return false
		}
		if value&1 == 0 {
			if value>>1 > uint64(end-at) {
				return false
			}
			at += int(value >> 1)
		}
		var headers uint64
		if at < len(r) && r[at] < 0x80 {
			headers, at = uint64(r[at]), at+1
		} else if headers, at = uvarintLong(r, at); at < 0 {
			return false
		}
		if headers&1 != 0 || headers != 0 && checkHeaders(int32(headers>>1), 0, r[at:]) != "" || headers == 0 && at != end {
			return false
		}
		i = end
	}
	if i != len(p) || count < 0 {
		return false
	}
	w.count, w.maxTimestampMs, w.consecutive = count, maxTS, true
	return true
}

// uvarintLong reads an unsigned varint of at most five bytes at b[i:] and returns where it ends, or -1. Longer ones, which
// only timestamp deltas of weeks need, are left to the general way. The loop above reads those of one byte by itself: a
// function that does both is not inlined, and costs a third of the walk.
func uvarintLong(b []byte, i int) (u uint64, end int) {
	for shift := 0; shift < 35; shift += 7 {
		if uint(i) >= uint(len(b)) {
			return 0, -1
		}
		c := b[i]
		i++
		if c < 0x80 {
			u |= uint64(c) << shift
			if u > 1<<32-1 {
				return 0, -1
			}
			return u, i
		}
		u |= uint64(c&0x7f) << shift
	}
	return 0, -1
}
