package log

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// Entries of the message formats 0 and 1 are found in logs that old releases wrote. They are recovered, indexed, served and kept
// as they are, and nothing writes them any more. A walk sees an entry as a batch whose first offset is its last one: a wrapper's
// first offset is known only when it is decompressed, and nobody who looks for an offset needs it. Format 0 has no timestamps, and
// neither has leader epochs.

// legacyRecordLimit bounds what a wrapper may expand to while a record in it is looked up.
const legacyRecordLimit = decompressLimit

// firstLegacyRecord finds the first record in an entry that matches.
func firstLegacyRecord(bytes []byte, match func(o id.Offset, ts int64) bool) (TimestampOffset, error) {
	e, _, err := record.NextLegacy(bytes)
	if err != nil {
		return TimestampOffset{}, err
	}
	it := e.Records(legacyRecordLimit)
	defer it.Close()
	var r record.Record
	for it.Next(&r) {
		if match(r.Offset, r.TimestampMs) {
			return TimestampOffset{Found: true, Timestamp: r.TimestampMs, Offset: r.Offset, LeaderEpoch: id.NoLeaderEpoch}, nil
		}
	}
	return TimestampOffset{}, it.Err()
}
