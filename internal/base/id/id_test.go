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

func TestNewUUID(t *testing.T) {
	for _, c := range []struct {
		random [16]byte
		text   string
		ok     bool
	}{
		{[16]byte{}, "AAAAAAAAQACAAAAAAAAAAA", true},
		{[16]byte{0: 0xf8}, "-AAAAAAAQACAAAAAAAAAAA", false},
		{[16]byte{13: 0x03, 14: 0xe0}, "AAAAAAAAQACAAAAAAAPgAA", true},
		{[16]byte{12: 0xfb, 13: 0xe0}, "AAAAAAAAQACAAAAA--AAAA", false},
		{[16]byte{6: 0xff, 8: 0xff}, "AAAAAAAATwC_AAAAAAAAAA", true},
	} {
		if u, ok := NewUUID(c.random); u.String() != c.text || ok != c.ok {
			t.Errorf("NewUUID(%x) = %v, %v, want %s, %v", c.random, u, ok, c.text, c.ok)
		}
	}
}

func TestTopicPartition(t *testing.T) {
	a, b := TopicPartition{"a", 2}, TopicPartition{"a", 10}
	if a.Compare(b) >= 0 || a.String() != "a-2" {
		t.Error("partitions order by number and print as their directory")
	}
}
