package record

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestJavaProducer reads what the Java console producer (4.x) sent in each codec: forty lines, some with a batch of their own.
func TestJavaProducer(t *testing.T) {
	for _, c := range allCodecs[1:] {
		text, err := os.ReadFile("testdata/java-" + c.String() + ".hex")
		if err != nil {
			t.Fatal(err)
		}
		log, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for len(log) > 0 {
			var b Batch
			if b, log, err = Next(log); err != nil || b.CheckCRC() != nil || b.Codec() != c {
				t.Fatalf("%s: %v, %v", c, b, err)
			}
			for _, r := range collect(t, b) {
				n++
				key, value := fmt.Sprintf("key%d", n%5), fmt.Sprintf("the quick brown fox jumps over the lazy dog number %d of forty, again and again and again", n)
				if r.Offset != int64(n-1) || string(r.Key) != key || string(r.Value) != value {
					t.Fatalf("%s: record %d is %d %q %q", c, n, r.Offset, r.Key, r.Value)
				}
			}
			b.SetBaseOffset(0)
			o := testOptions()
			o.NowMs = b.MaxTimestamp()
			o.ProduceVersion = 11
			before := b.BaseSequence()
			if v, err := Validate(b, o); err != nil || v.Rewritten || Batch(v.Bytes).BaseSequence() != before {
				t.Fatalf("%s: %+v, %v", c, v, err)
			}
		}
		if n != 40 {
			t.Fatalf("%s: %d records", c, n)
		}
	}
}
