package image

import "strconv"

// MetadataVersion is the level of the feature metadata.version (KIP-778): it says which records may be written, and in
// which versions. 0 means that no level is known yet.
type MetadataVersion int16

// Levels of metadata.version that change what is written or decided.
const (
	MetadataVersionFeature = "metadata.version"

	MinMetadataVersion    MetadataVersion = 7  // 3.3-IV3: the oldest level that 4.x reads
	Version34IV0          MetadataVersion = 8  // RegisterBrokerRecord 2
	Version35IV2          MetadataVersion = 11 // SCRAM records
	Version36IV0          MetadataVersion = 12 // no leader epoch bump when the ISR shrinks
	Version36IV1          MetadataVersion = 13 // metadata transactions
	Version36IV2          MetadataVersion = 14 // delegation tokens
	Version37IV0          MetadataVersion = 15 // controller registration
	Version37IV2          MetadataVersion = 17 // directory assignment (KIP-858)
	Version40IV1          MetadataVersion = 23 // ELR records (KIP-966)
	Version43IV0          MetadataVersion = 30 // cordoned log directories
	Version44IV1          MetadataVersion = 32 // CIDR host patterns in ACLs
	Version44IV2          MetadataVersion = 33 // controller unregistration
	LatestMetadataVersion MetadataVersion = Version44IV2
)

// String returns the release name that Kafka prints, as in "4.4-IV2".
func (v MetadataVersion) String() string {
	if v >= MinMetadataVersion && int(v-MinMetadataVersion) < len(metadataVersionNames) {
		return metadataVersionNames[v-MinMetadataVersion]
	}
	return strconv.Itoa(int(v))
}

// Known reports whether this program knows the level.
func (v MetadataVersion) Known() bool { return v >= MinMetadataVersion && v <= LatestMetadataVersion }

// Names of the levels from MinMetadataVersion on. Never changed.
var metadataVersionNames = [...]string{"3.3-IV3", "3.4-IV0", "3.5-IV0", "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2",
	"3.7-IV0", "3.7-IV1", "3.7-IV2", "3.7-IV3", "3.7-IV4", "3.8-IV0", "3.9-IV0", "4.0-IV0", "4.0-IV1", "4.0-IV2", "4.0-IV3",
	"4.1-IV0", "4.1-IV1", "4.2-IV0", "4.2-IV1", "4.3-IV0", "4.4-IV0", "4.4-IV1", "4.4-IV2"}

// ChangesMetadata reports whether any level in (low, high] changed records, so that a downgrade could lose something.
func ChangesMetadata(low, high MetadataVersion) bool {
	for _, v := range [...]MetadataVersion{7, 8, 11, 13, 14, 15, 17, 23, 30, 32, 33} {
		if v > low && v <= high {
			return true
		}
	}
	return false
}

// ScramSupported and the other predicates say what a level allows.
func (v MetadataVersion) ScramSupported() bool { return v >= Version35IV2 }

// LeaderEpochBumpOnIsrShrink: before 3.6 a shrinking ISR had to bump the leader epoch (KAFKA-15021).
func (v MetadataVersion) LeaderEpochBumpOnIsrShrink() bool { return v < Version36IV0 }

// MetadataTransactionSupported: begin, end and abort records may be written.
func (v MetadataVersion) MetadataTransactionSupported() bool { return v >= Version36IV1 }

// DelegationTokenSupported: token records may be written.
func (v MetadataVersion) DelegationTokenSupported() bool { return v >= Version36IV2 }

// ControllerRegistrationSupported: controllers register themselves.
func (v MetadataVersion) ControllerRegistrationSupported() bool { return v >= Version37IV0 }

// ControllerUnregistrationSupported: UnregisterControllerRecord may be written.
func (v MetadataVersion) ControllerUnregistrationSupported() bool { return v >= Version44IV2 }

// DirectoryAssignmentSupported: partitions name the log directory of each replica (KIP-858).
func (v MetadataVersion) DirectoryAssignmentSupported() bool { return v >= Version37IV2 }

// ElrSupported: eligible leader replicas may be recorded (KIP-966).
func (v MetadataVersion) ElrSupported() bool { return v >= Version40IV1 }

// CordonedLogDirsSupported: log directories may be cordoned.
func (v MetadataVersion) CordonedLogDirsSupported() bool { return v >= Version43IV0 }

// RegisterBrokerRecordVersion is the version in which RegisterBrokerRecord is written.
func (v MetadataVersion) RegisterBrokerRecordVersion() int16 {
	switch {
	case v.CordonedLogDirsSupported():
		return 4
	case v.DirectoryAssignmentSupported():
		return 3
	case v >= Version34IV0:
		return 2
	default:
		return 1
	}
}

// PartitionRecordVersion is the version of PartitionRecord and of PartitionChangeRecord.
func (v MetadataVersion) PartitionRecordVersion() int16 {
	switch {
	case v.ElrSupported():
		return 2
	case v.DirectoryAssignmentSupported():
		return 1
	default:
		return 0
	}
}
