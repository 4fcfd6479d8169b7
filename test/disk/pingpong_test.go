package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPingPong hands one directory to and fro: each product finds what the other left, adds to it, and ends cleanly, by a kill, or
// by a kill while clients are writing.
func TestPingPong(t *testing.T) {
	b := setup(t)
	p := b.place(b.rnd.IntN(2) == 0, snapshotOften)
	b.must(p.format(""), "format")
	m := &model{facts: facts{}}
	w := &writer{m: m, rnd: b.rnd}
	defer w.across.close()
	for round := range *rounds {
		for _, who := range []product{kafka, moldau} {
			b.turn(p, w, who, round)
			if b.Failed() {
				return // the next would only say the same again
			}
		}
		if round == 0 || round == *rounds-1 {
			b.inspect(p)
		}
	}
	// The last word is Kafka's.
	b.reopen(p, w, kafka, withACLs()...)
	b.compare(w.node, m, "opened by kafka at the end", nil)
	b.must(w.arrive(b.ctx), "end what was begun under Moldau")
	b.learn(w.node, m, "read at the end")
	w.kgo.Close()
	b.must(p.stop(), "stop")
	b.inspect(p)
}

func (b *bench) turn(p *place, w *writer, who product, round int) {
	var extra []string
	if who == kafka {
		extra = withACLs()
	}
	w.tag = fmt.Sprintf("%c%d", who[0], round)
	b.reopen(p, w, who, extra...)
	if round == 0 && who == kafka {
		b.must(w.create(b.ctx), "create")
	} else {
		got := b.compare(w.node, w.m, fmt.Sprintf("round %d, opened by %s", round, who), nil)
		for path, value := range got {
			if strings.HasPrefix(path, "log/"+topicLoad) {
				w.m.set(path, value) // written, but not acknowledged: it stays
			}
		}
	}
	if err := w.change(b.ctx); err != nil {
		b.Fatalf("round %d, change by %s: %v", round, who, err)
	}
	if who == kafka {
		b.cleaned(p, topicCompact)
	}
	b.learn(w.node, w.m, fmt.Sprintf("round %d, read from %s", round, who))
	if b.rnd.IntN(3) > 0 {
		b.leave(p, w.node, w.m)
		return
	}
	b.must(w.load(b.ctx, 200+b.rnd.IntN(3000), p.kill), "kill under load")
	w.kgo.Close()
	w.m.killed()
	b.Logf("%s was killed under load", who)
}

// cleaned waits until the cleaner has been over a compacted topic.
func (b *bench) cleaned(p *place, topic string) {
	b.Helper()
	file := filepath.Join(p.data(), "cleaner-offset-checkpoint")
	deadline := time.Now().Add(60 * time.Second)
	for ; time.Now().Before(deadline); <-time.After(100 * time.Millisecond) {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), "\n"+topic+" ") {
			return
		}
	}
	text, err := os.ReadFile(file)
	b.Errorf("the cleaner has not been over %s in a minute: %q, %v", topic, text, err)
}

func TestCutShort(t *testing.T) {
	for line, want := range map[string]bool{
		"Found 3657 invalid bytes at the end of 00000000000000000000.log\n":    true,
		"Found 1048576 invalid bytes at the end of 00000000000000000000.log\n": false, // more than one write
		"Found timestamp mismatch in :00000000000000000000.timeindex\n":        false,
		"baseOffset: 0 lastOffset: 0 isvalid: false\n":                         false,
	} {
		if got := cutShort(line); got != want {
			t.Errorf("%q: %t, want %t", line, got, want)
		}
	}
}
