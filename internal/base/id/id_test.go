package id

import "testing"

func TestUUIDText(t *testing.T) {
	for _, text := range []string{"AAAAAAAAAAAAAAAAAAAAAQ", "4L6g3nShT-eMCtK--X86sw"} {
		u, err := ParseUUID(text)
		if err != nil || u.String() != text {
			t.Errorf("ParseUUID(%q) = %v, %v", text, u, err)
		}
	}
	for _, text := range []string{"", "x", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAQAAAA", "!!AAAAAAAAAAAAAAAAAAAQ"} {
		if u, err := ParseUUID(text); err == nil {
			t.Errorf("ParseUUID(%q) = %v, want an error", text, u)
		}
	}
	if MetadataTopicID.String() != "AAAAAAAAAAAAAAAAAAAAAQ" {
		t.Errorf("metadata topic id = %v", MetadataTopicID)
	}
}

func TestUUIDOrderIsSigned(t *testing.T) {
	low, high := UUID{0: 0x80}, UUID{0: 0x01}
	if low.Compare(high) >= 0 || high.Compare(low) <= 0 || low.Compare(low) != 0 {
		t.Error("a set top bit must sort first, as in Java's signed comparison")
	}
}

func TestTopicPartition(t *testing.T) {
	a, b := TopicPartition{"a", 2}, TopicPartition{"a", 10}
	if a.Compare(b) >= 0 || a.String() != "a-2" {
		t.Error("partitions order by number and print as their directory")
	}
}
