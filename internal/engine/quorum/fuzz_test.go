package quorum

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/record"
)

// FuzzSnapshot reads snapshots with repaired CRCs and replays what is accepted: an error, or an image, never a panic.
func FuzzSnapshot(f *testing.F) {
	for _, name := range []string{"bootstrap-static.hex", "bootstrap-dynamic.hex"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for rest := b; len(rest) > 0; {
			batch, next, err := record.Next(rest)
			if err != nil {
				break
			}
			batch.SetCRC()
			rest = next
		}
		s, err := parseSnapshot(b, bootstrapID)
		if err != nil {
			return
		}
		d := image.NewSnapshotDelta(image.Empty())
		for _, r := range s.records {
			if d.Replay(r.Message) != nil {
				return
			}
		}
		d.Apply(image.Provenance{})
	})
}

// FuzzStateFiles reads quorum-state and meta.properties, and writes again what it could read.
func FuzzStateFiles(f *testing.F) {
	f.Add(`{"leaderId":1,"leaderEpoch":1,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}`)
	f.Add("#\n#Tue Nov 24 06:12:35 UTC 2026\ncluster.id=MkU3OEVBNTcwNTJENDM2Qg\ndirectory.id=SWVX05qgTd2KwJ8ThLrvQA\nnode.id=1\nversion=1\n")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := decodeState([]byte(text)); err == nil {
			b, err := encodeState(h, 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := decodeState(b); err != nil || again != h {
				t.Fatalf("%+v comes back as %+v, %v", h, again, err)
			}
		}
		if m, err := parseMeta(text); err == nil && (m.NodeID < 0 || m.ClusterID == "") {
			t.Fatalf("%+v", m)
		}
	})
}
