package record

// maxVarintBytes is the longest varint of a record, its timestamp delta.
const maxVarintBytes = 10

// skimRecord reads a compressed record that is larger than the window, without keeping its key, value and headers: they
// become empty (or null). Its length prefix takes prefix bytes of src.
func (it *Iterator) skimRecord(r *Record, prefix, size int) bool {
	it.src = it.src[prefix:]
	c := skimmer{it: it, left: size}
	r.Attributes = int8(c.byte())
	tsDelta := c.varlong()
	r.OffsetDelta = c.varint()
	r.Key = c.skip(c.varint())
	r.Value = c.skip(c.varint())
	r.HeaderCount, r.headers = 0, nil
	n := c.varint()
	if !c.bad && n < 0 {
		return it.fail(reasonHeaderCount(n))
	}
	if !c.bad && int(n) > c.left {
		return it.fail(reasonHeadersTooMany(n))
	}
	for i := int32(0); i < n && !c.bad; i++ {
		keySize := c.varint()
		if keySize < 0 {
			return it.fail(reasonHeaderKey(keySize))
		}
		c.skip(keySize)
		c.skip(c.varint())
	}
	switch {
	case it.err != nil:
		return false
	case c.bad:
		return it.fail(reasonStructure)
	case c.left != 0:
		return it.fail(reasonSize(size, size-c.left))
	}
	it.facts.place(r, tsDelta)
	r.SizeBytes = prefix + size
	it.left--
	return it.left > 0 || it.finish()
}

// skimmer reads the body of one record field by field. After the first failure (bad) it yields zeros.
type skimmer struct {
	it   *Iterator
	left int // bytes of the body still to come
	bad  bool
}

// ready brings n bytes of the body into the window, or as many as the body has.
func (c *skimmer) ready(n int) []byte {
	for n = min(n, c.left); !c.bad && len(c.it.src) < n; {
		c.bad = !c.it.fill()
	}
	if c.bad {
		return nil
	}
	return c.it.src[:min(len(c.it.src), c.left)]
}

// took moves on to rest, a tail of what ready returned.
func (c *skimmer) took(was, rest []byte, ok bool) {
	if !ok || c.bad {
		c.bad = true
		return
	}
	n := len(was) - len(rest)
	c.it.src = c.it.src[n:]
	c.left -= n
}

func (c *skimmer) byte() byte {
	b := c.ready(1)
	if len(b) == 0 {
		c.bad = true
		return 0
	}
	c.took(b, b[1:], true)
	return b[0]
}

func (c *skimmer) varint() int32 {
	b := c.ready(maxVarintBytes)
	v, rest, ok := readVarint(b)
	c.took(b, rest, ok)
	return v
}

func (c *skimmer) varlong() int64 {
	b := c.ready(maxVarintBytes)
	v, rest, ok := readVarlong(b)
	c.took(b, rest, ok)
	return v
}

// skip passes over n bytes; the result is null for a negative n and empty otherwise.
func (c *skimmer) skip(n int32) []byte {
	if n < 0 {
		return nil
	}
	if int(n) > c.left {
		c.bad = true
	}
	for left := int(n); left > 0 && !c.bad; {
		b := c.ready(1)
		k := min(left, len(b))
		c.took(b, b[k:], k > 0)
		left -= k
	}
	return []byte{}
}
