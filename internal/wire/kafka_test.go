package wire_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// kind is one message with its versions, as the tests below go through all of them.
type kind struct {
	name     string // Kafka's
	lo, hi   int16
	flexible int16 // first flexible version, -1 for none
	make     func() wire.Message
}

// kinds returns every message of api, logrec and this package.
func kinds() []kind {
	var list []kind
	for _, i := range api.Table() {
		list = append(list,
			kind{i.Name + "Request", i.Min, i.Max, i.FlexibleFrom, func() wire.Message { return i.NewRequest() }},
			kind{i.Name + "Response", i.Min, i.Max, i.FlexibleFrom, func() wire.Message { return i.NewResponse() }})
	}
	list = append(list, kind{"RequestHeader", 1, 2, 2, func() wire.Message { return wire.NewRequestHeader() }},
		kind{"ResponseHeader", 0, 1, 1, func() wire.Message { return wire.NewResponseHeader() }})
	for _, f := range logrec.Forms() {
		list = append(list, kind{f.Name, f.Min, f.Max, f.FlexibleFrom, f.New})
	}
	return list
}

// kafkaJars returns the class path of the Kafka that is asked, "" if there is none on this machine.
func kafkaJars() string {
	home := os.Getenv("ORACLE_HOME")
	if home == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return ""
		}
		home = filepath.Join(cache, "moldau-oracle")
	}
	dir := filepath.Join(home, "server-4.4.0")
	if jars, _ := filepath.Glob(filepath.Join(dir, "kafka-clients-*.jar")); len(jars) == 0 {
		return ""
	}
	return filepath.Join(dir, "*")
}

type question struct {
	kind    kind
	version int16
	frame   []byte
	honest  bool
	write   int16 // the version to encode at
	fresh   bool  // the message with its defaults, frame is empty
}

// TestAgreesWithKafka has Kafka decode random messages and damaged ones: what it accepts must be what we accept, and what it
// writes back what we write back.
func TestAgreesWithKafka(t *testing.T) {
	jars := kafkaJars()
	if jars == "" {
		t.Skip("no Kafka 4.4.0 on this machine")
	}
	if testing.Short() {
		t.Skip("starts a JVM")
	}
	rng := random(t)
	// Usually a third of the versions, another one each time; MOLDAU_ROUNDS asks for all of them so many times over.
	rounds, _ := strconv.Atoi(os.Getenv("MOLDAU_ROUNDS"))
	var asked []question
	for _, k := range kinds() {
		for v := k.lo; v <= k.hi; v++ {
			n := rounds
			if rounds == 0 && rng.IntN(3) == 0 {
				n = 1
			}
			for range n {
				m := k.make()
				filler{Rand: rng, tags: k.flexible >= 0 && v >= k.flexible}.fill(reflect.ValueOf(m).Elem(), 0)
				frame := wire.Marshal(m, v)
				asked = append(asked, question{kind: k, version: v, frame: frame, honest: true, write: v})
				// Read at one version and written at another, what the first does not have takes its default.
				other := k.lo + int16(rng.IntN(int(k.hi-k.lo)+1))
				asked = append(asked, question{kind: k, version: v, frame: frame, honest: true, write: other})
				asked = append(asked, question{kind: k, version: v, write: v, fresh: true})
				if rng.IntN(4) == 0 {
					// The same with strings that are not UTF-8.
					f := filler{Rand: rng, letters: badText}
					f.fill(reflect.ValueOf(m).Elem(), 0)
					asked = append(asked, question{kind: k, version: v, frame: wire.Marshal(m, v), write: v})
				}
				for range 5 {
					asked = append(asked, question{kind: k, version: v, frame: damage(rng, frame), write: v})
				}
			}
		}
	}
	asked = append(asked, limits(t)...)
	answers := ask(t, jars, asked)
	var accepted, refused, unwritable, dear int
	for i, q := range asked {
		verdict, rest, _ := strings.Cut(answers[i], " ")
		m := q.kind.make()
		r := wire.NewReader(q.frame, wire.NewBudget(len(q.frame), nil))
		if !q.fresh {
			m.Decode(r, q.version)
		}
		where := fmt.Sprintf("%s %d (honest %t) %x", q.kind.name, q.version, q.honest, q.frame)
		if len(where) > 3000 {
			where = where[:3000]
		}
		switch {
		case verdict == "unknown":
			t.Errorf("Kafka has no %s", q.kind.name)
			return
		case errors.Is(r.Err(), wire.ErrBudget) && len(q.frame) < 100000: // the limits are not about memory
			dear++
			if q.honest {
				t.Errorf("%s: %v", where, r.Err())
			}
			continue
		case verdict == "refused":
			refused++
			if r.Err() == nil || q.honest {
				t.Errorf("%s: refused by Kafka, here: %v", where, r.Err())
			}
			continue
		case r.Err() != nil:
			t.Errorf("%s: accepted by Kafka (%s), here: %v", where, verdict, r.Err())
			continue
		}
		left, text, _ := strings.Cut(rest, " ")
		if left != fmt.Sprint(r.Remaining()) {
			t.Errorf("%s: Kafka left %s bytes, we %d", where, left, r.Remaining())
		}
		if verdict == "unwritable" { // tags out of order can be read but not written
			unwritable++
			continue
		}
		accepted++
		if again := hex.EncodeToString(wire.Marshal(m, q.write)); again != text {
			t.Errorf("%s, written at %d:\nKafka wrote %s,\nwe          %s", where, q.write, text, again)
		}
		if t.Failed() && i > 5000 {
			return
		}
	}
	t.Logf("%d frames: %d accepted by both, %d refused by both, %d accepted but unwritable for Kafka, %d beyond the budget", len(asked), accepted, refused, unwritable, dear)
	if accepted == 0 || refused == 0 {
		t.Error("the frames do not tell anything")
	}
}

// limits returns frames around the limits that Kafka sets on counts.
func limits(t *testing.T) []question {
	byName := map[string]kind{}
	for _, k := range kinds() {
		byName[k.name] = k
	}
	var list []question
	put := func(name string, version int16, frame func(w *wire.Writer)) {
		var w wire.Writer
		frame(&w)
		b, err := w.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, question{kind: byName[name], version: version, frame: b, write: version})
	}
	for _, n := range []int{1_000_000, 1_000_001} {
		put("ListGroupsRequest", 3, func(w *wire.Writer) { w.Strings(true, false, make([]string, n)); w.Tags(nil) })
		put("MetadataRequest", 0, func(w *wire.Writer) { w.Strings(false, false, slices.Repeat([]string{"topic"}, n)) })
		put("ClearElrRecord", 0, func(w *wire.Writer) { w.Uvarint(uint32(n)); w.Tags(nil) })
		put("GetTelemetrySubscriptionsResponse", 0, func(w *wire.Writer) {
			w.Raw(make([]byte, 4+2+16+4))
			w.Int8s(true, false, make([]int8, n))
			w.Raw(make([]byte, 20))
		})
	}
	for _, n := range []uint32{9_999, 10_000, 10_001, 1 << 31, 1<<32 - 1} {
		put("ClearElrRecord", 0, func(w *wire.Writer) {
			w.Uvarint(1)
			w.Uvarint(n)
			for i := range min(n, 20_000) {
				w.Uvarint(i)
				w.Uvarint(0)
			}
		})
	}
	for _, n := range []int{32767, 32768, 65535, 65536} {
		put("ClearElrRecord", 0, func(w *wire.Writer) { w.Uvarint(uint32(n + 1)); w.Raw(make([]byte, n)); w.Tags(nil) })
		put("HeartbeatRequest", 0, func(w *wire.Writer) { w.Uint16(uint16(n)); w.Raw(make([]byte, n)); w.Raw(make([]byte, 10)) })
	}
	return list
}

// badText are sequences that are not UTF-8 in the ways there are.
var badText = []string{
	"\x80", "\xc0\xaf", "\xc2", "\xc3x", "\xe0\x80\x80", "\xe0\xa0", "\xe2\x82", "\xe2\x82x", "\xed\xa0\x80", "\xed\xa0", "\xed\xbf\xbfz", "\xed\xa0x",
	"\xf0\x80\x80\x80", "\xf0\x90", "\xf0\x90\x80", "\xf0\x90\x80x", "\xf0\x90x", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xff\xfe",
	"\xf4\x8f\xbf", "\xee\x80", "\xf1\x80\x80", "\xf1\x80", "\xf1",
}

// damage returns a copy of frame with one to three small faults.
func damage(rng *rand.Rand, frame []byte) []byte {
	b := bytes.Clone(frame)
	for range 1 + rng.IntN(3) {
		if len(b) == 0 {
			return b
		}
		i := rng.IntN(len(b))
		switch rng.IntN(7) {
		case 0:
			b[i] ^= 1 << rng.IntN(8)
		case 1:
			b[i] = byte(rng.Uint32())
		case 2:
			b = b[:i]
		case 3:
			b = append(b[:i], b[i+1:]...)
		case 4:
			b = append(b[:i], append([]byte{[]byte{0, 1, 2, 0x7f, 0x80, 0xff}[rng.IntN(6)]}, b[i:]...)...)
		case 5:
			b[i] = []byte{0, 1, 2, 0x7f, 0x80, 0xff}[rng.IntN(6)]
		case 6:
			b = append(b, byte(rng.Uint32()))
		}
	}
	return b
}

// ask runs the questions through Kafka and returns a line for each.
func ask(t *testing.T, jars string, questions []question) []string {
	t.Helper()
	var in, out bytes.Buffer
	for _, q := range questions {
		frame := hex.EncodeToString(q.frame)
		if q.fresh {
			frame = "new"
		}
		fmt.Fprintf(&in, "%s %d %s %d\n", q.kind.name, q.version, frame, q.write)
	}
	cmd := exec.CommandContext(t.Context(), "java", "-Xmx256m", "-cp", jars, filepath.Join("testdata", "RoundTrip.java"))
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &complaint
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			t.Skip("no Java on this machine")
		}
		t.Fatalf("%v: %s", err, complaint.Bytes())
	}
	var lines []string
	s := bufio.NewScanner(&out)
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		lines = append(lines, s.Text())
	}
	if len(lines) != len(questions) {
		t.Fatalf("%d answers to %d questions: %s", len(lines), len(questions), complaint.Bytes())
	}
	return lines
}
