package log

// Messages of the formats 0 and 1 stay in a compacted log as they are.

func (c *cleanPass) mapLegacy(h header, _ []byte) error {
	if h.last >= c.firstDirty {
		c.keys.seen(h.last)
	}
	return nil
}

func (c *cleanPass) filterLegacy(_ header, raw []byte) error {
	start := len(c.out)
	c.out = append(c.out, raw...)
	return c.emit(start, 1)
}
