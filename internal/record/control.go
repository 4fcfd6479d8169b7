package record

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/moldau-io/moldau/internal/base/id"
)

// ControlType is the type of a control record, the second half of its key.
type ControlType int16

// The control records of 4.4. Abort and Commit end transactions (KIP-98); the others belong to the metadata log (KIP-595,
// KIP-630, KIP-853).
const (
	ControlAbort          ControlType = 0
	ControlCommit         ControlType = 1
	ControlLeaderChange   ControlType = 2
	ControlSnapshotHeader ControlType = 3
	ControlSnapshotFooter ControlType = 4
	ControlKRaftVersion   ControlType = 5
	ControlKRaftVoters    ControlType = 6
)

var controlNames = [...]string{"ABORT", "COMMIT", "LEADER_CHANGE", "SNAPSHOT_HEADER", "SNAPSHOT_FOOTER", "KRAFT_VERSION", "KRAFT_VOTERS"}

// String returns Kafka's name.
func (t ControlType) String() string {
	if t < 0 || int(t) >= len(controlNames) {
		return "UNKNOWN(" + strconv.Itoa(int(t)) + ")"
	}
	return controlNames[t]
}

// controlKeyVersion is the version of control record keys.
const controlKeyVersion = 0

// ControlKey returns the key of a control record: version and type, two int16.
func ControlKey(t ControlType) []byte {
	return []byte{0, controlKeyVersion, byte(t >> 8), byte(t)}
}

// ParseControlKey reads a control record's key. Versions above 0 are read as version 0, whose fields come first in all.
func ParseControlKey(key []byte) (ControlType, error) {
	if len(key) < 4 {
		return 0, &InvalidError{Reason: fmt.Sprintf("Invalid value size found for end control record key. Must have at least 4 bytes, but found only %d", len(key))}
	}
	if v := int16(binary.BigEndian.Uint16(key)); v < 0 {
		return 0, &InvalidError{Reason: fmt.Sprintf("Invalid version found for control record: %d. May indicate data corruption", v)}
	}
	return ControlType(binary.BigEndian.Uint16(key[2:])), nil
}

// ControlRecord is a control record: its type (the key) and its encoded value.
type ControlRecord struct {
	Type  ControlType
	Value []byte
}

// AppendControl appends one control batch with these records, in order, to dst. Of o the control flag is implied.
func AppendControl(dst []byte, o Options, timestampMs int64, records ...ControlRecord) ([]byte, error) {
	o.Control = true
	b := NewBuilder(o)
	for _, r := range records {
		if err := b.Append(timestampMs, ControlKey(r.Type), r.Value); err != nil {
			return dst, err
		}
	}
	return b.AppendTo(dst)
}

// ControlBatch builds one control batch with these records.
func ControlBatch(o Options, timestampMs int64, records ...ControlRecord) (Batch, error) {
	b, err := AppendControl(nil, o, timestampMs, records...)
	return Batch(b), err
}

// LeaderChange builds the batch that opens a metadata leader's epoch; value is an encoded LeaderChangeMessage. With KRaft
// version 1 on, the leader adds the KRaftVersion and Voters records it found in its bootstrap snapshot as more.
func LeaderChange(base id.Offset, epoch id.LeaderEpoch, timestampMs int64, value []byte, more ...ControlRecord) (Batch, error) {
	o := NewOptions()
	o.BaseOffset, o.LeaderEpoch = base, epoch
	return ControlBatch(o, timestampMs, append([]ControlRecord{{ControlLeaderChange, value}}, more...)...)
}

// SnapshotHeader builds the first batch of a snapshot; header is an encoded SnapshotHeaderRecord, more are the
// KRaftVersion and Voters records, if the snapshot has them.
func SnapshotHeader(epoch id.LeaderEpoch, timestampMs int64, header []byte, more ...ControlRecord) (Batch, error) {
	o := NewOptions()
	o.LeaderEpoch = epoch
	return ControlBatch(o, timestampMs, append([]ControlRecord{{ControlSnapshotHeader, header}}, more...)...)
}

// SnapshotFooter builds the last batch of a snapshot at offset base of it; footer is an encoded SnapshotFooterRecord.
func SnapshotFooter(base id.Offset, epoch id.LeaderEpoch, timestampMs int64, footer []byte) (Batch, error) {
	o := NewOptions()
	o.BaseOffset, o.LeaderEpoch = base, epoch
	return ControlBatch(o, timestampMs, ControlRecord{ControlSnapshotFooter, footer})
}

// EndTxnMarker builds the marker batch that commits or aborts a producer's transaction; value is an encoded EndTxnMarker.
func EndTxnMarker(pid id.ProducerID, epoch id.ProducerEpoch, commit bool, timestampMs int64, value []byte) (Batch, error) {
	o := NewOptions()
	o.ProducerID, o.ProducerEpoch, o.Transactional = pid, epoch, true
	t := ControlAbort
	if commit {
		t = ControlCommit
	}
	return ControlBatch(o, timestampMs, ControlRecord{t, value})
}
