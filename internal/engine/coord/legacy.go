package coord

import (
	"fmt"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// replayLegacy replays an entry of the message formats 0 and 1 at the beginning of b, which a log that was compacted by an old
// release may hold still. There were no transactions then. It returns the offset after the entry.
func (c *cell[M]) replayLegacy(core M, b []byte, from id.Offset) (n int, next id.Offset, err error) {
	e, _, err := record.NextLegacy(b)
	if err != nil {
		return 0, 0, fmt.Errorf("entry at %d: %w", from, err)
	}
	it := e.Records(maxLoadBatch)
	defer it.Close()
	var r record.Record
	for it.Next(&r) {
		if r.Offset < from {
			continue
		}
		n++
		if err := c.replayRecord(core, &r, id.NoProducer); err != nil {
			return n, 0, err
		}
	}
	return n, e.Offset() + 1, it.Err()
}
