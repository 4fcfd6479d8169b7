package coord

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/moldau-io/moldau/internal/record"
)

// TestLegacyEntries loads a partition that begins with entries of an old format, among them wrappers.
func TestLegacyEntries(t *testing.T) {
	for _, name := range []string{"0-none-create", "0-lz4-create", "1-gzip-create", "1-none-create"} {
		text, err := os.ReadFile("../../record/testdata/legacy-" + name + ".hex")
		if err != nil {
			t.Fatal(err)
		}
		old, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatal(err)
		}
		last, want := record.Legacy(nil), newNotes()
		for rest := old; len(rest) > 0; {
			if last, rest, err = record.NextLegacy(rest); err != nil {
				t.Fatal(err)
			}
			it := last.Records(1 << 20)
			var r record.Record
			for it.Next(&r) {
				want.values[string(r.Key)] = string(r.Value)
			}
			it.Close()
		}
		synctest.Test(t, func(t *testing.T) {
			w := newNoteWorld(t, 1, nil)
			w.l.set(0, func(p *memPartition) { p.legacy, p.end, p.hw = old, last.Offset()+1, last.Offset()+1 })
			for _, more := range []string{"a", "b"} {
				epoch := w.l.depose(0)
				w.r.Resigned(0, epoch)
				w.r.Elected(0, epoch)
				w.expect("loaded")
				w.state(want.String())
				w.put(0, more, "1")
				w.expect(more + ": put " + more)
				want.values[more] = "1"
				w.state(want.String())
			}
			if b := w.l.parts[0].batches[0]; b.BaseOffset() != last.Offset()+1 {
				t.Errorf("%s: the first batch of today is at %d", name, b.BaseOffset())
			}
		})
	}
}
