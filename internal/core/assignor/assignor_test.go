package assignor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
)

func topic(n int) (u id.UUID) {
	binary.BigEndian.PutUint64(u[8:], uint64(n))
	return u
}

func number(u id.UUID) int { return int(binary.BigEndian.Uint64(u[8:])) }

// group is a random group: topics by number with their sizes, and what an assignor sees.
type group struct {
	sizes map[id.UUID]int32
	in    Input
}

func randomGroup(rnd *rand.Rand, homogeneous bool) *group {
	g := &group{sizes: map[id.UUID]int32{}}
	topics := 1 + rnd.IntN(10)
	for n := 1; n <= topics; n++ {
		g.sizes[topic(n)] = int32(1 + rnd.IntN(14))
	}
	g.in.Homogeneous = homogeneous
	g.in.Partitions = func(t id.UUID) int32 {
		if n, ok := g.sizes[t]; ok {
			return n
		}
		return -1
	}
	for i := range 1 + rnd.IntN(12) {
		g.add(rnd, fmt.Sprintf("m%03d", i))
	}
	return g
}

func (g *group) subscription(rnd *rand.Rand) []id.UUID {
	if g.in.Homogeneous && len(g.in.Members) > 0 {
		return g.in.Members[0].Topics
	}
	var list []id.UUID
	for n := 1; n <= len(g.sizes); n++ {
		if g.in.Homogeneous || rnd.IntN(3) > 0 {
			list = append(list, topic(n))
		}
	}
	return list
}

func (g *group) add(rnd *rand.Rand, memberID string) {
	m := Member{ID: memberID, Topics: g.subscription(rnd), Assigned: Assignment{}}
	if rnd.IntN(4) == 0 {
		instance := fmt.Sprintf("i%d-%s", rnd.IntN(100), memberID)
		m.Instance = &instance
	}
	g.in.Members = append(g.in.Members, m)
}

// settle takes a result over as what the members have, and then something happens to the group.
func (g *group) settle(rnd *rand.Rand, result map[string]Assignment, step int) {
	for i := range g.in.Members {
		g.in.Members[i].Assigned = result[g.in.Members[i].ID]
	}
	switch rnd.IntN(5) {
	case 0:
		g.add(rnd, fmt.Sprintf("n%03d", step))
	case 1:
		if len(g.in.Members) > 1 {
			i := rnd.IntN(len(g.in.Members))
			g.in.Members = slices.Delete(g.in.Members, i, i+1)
		}
	case 2:
		g.sizes[topic(1+rnd.IntN(len(g.sizes)))] += int32(rnd.IntN(5))
	case 3:
		if !g.in.Homogeneous {
			g.in.Members[rnd.IntN(len(g.in.Members))].Topics = g.subscription(rnd)
		}
	}
}

// line writes a group as testdata/Assignors.java reads it.
func (g *group) line(name string) string {
	kind := "mixed"
	if g.in.Homogeneous {
		kind = "same"
	}
	var sizes []string
	for n := 1; n <= len(g.sizes); n++ {
		sizes = append(sizes, fmt.Sprintf("%d:%d", n, g.sizes[topic(n)]))
	}
	s := name + " " + kind + " " + strings.Join(sizes, ",")
	for _, m := range sorted(g.in.Members) {
		instance := ""
		if m.Instance != nil {
			instance = *m.Instance
		}
		var topics []string
		for _, t := range m.Topics {
			topics = append(topics, fmt.Sprint(number(t)))
		}
		s += " " + m.ID + ";" + instance + ";" + strings.Join(topics, ",") + ";" + text(m.Assigned)
	}
	return s
}

func text(a Assignment) string {
	var list []string
	for _, t := range topicsOf(a) {
		for _, p := range a[t] {
			list = append(list, fmt.Sprintf("%d-%d", number(t), p))
		}
	}
	return strings.Join(list, ",")
}

func (g *group) resultLine(result map[string]Assignment) string {
	s := ""
	for _, m := range sorted(g.in.Members) {
		s += m.ID + ";" + text(result[m.ID]) + " "
	}
	return s
}

// check holds what is true of every assignment: each partition that somebody reads has one owner, who reads it.
func (g *group) check(result map[string]Assignment) error {
	owners := map[string]string{}
	for _, m := range g.in.Members {
		for t, list := range result[m.ID] {
			if !slices.Contains(m.Topics, t) {
				return fmt.Errorf("%s gets topic %d, which it does not read", m.ID, number(t))
			}
			if !slices.IsSorted(list) || len(list) == 0 {
				return fmt.Errorf("%s gets %v of topic %d", m.ID, list, number(t))
			}
			for _, p := range list {
				at := fmt.Sprintf("%d-%d", number(t), p)
				if other, ok := owners[at]; ok || p < 0 || p >= g.sizes[t] {
					return fmt.Errorf("%s of %d goes to %s and %s", at, g.sizes[t], other, m.ID)
				}
				owners[at] = m.ID
			}
		}
	}
	for t, n := range g.sizes {
		read := slices.ContainsFunc(g.in.Members, func(m Member) bool { return slices.Contains(m.Topics, t) })
		for p := range n {
			if _, ok := owners[fmt.Sprintf("%d-%d", number(t), p)]; ok != read {
				return fmt.Errorf("%d-%d: owned %v, read %v", number(t), p, ok, read)
			}
		}
	}
	return nil
}

func size(a Assignment) (n int) {
	for _, list := range a {
		n += len(list)
	}
	return n
}

// kept counts the partitions that stay where they are.
func kept(before, after Assignment) (n int) {
	for t, list := range before {
		for _, p := range list {
			if slices.Contains(after[t], p) {
				n++
			}
		}
	}
	return n
}

// TestRandomGroups follows groups through changes: assignments are whole, Uniform is balanced and moves nothing that it need not.
func TestRandomGroups(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed.Of(t), 1))
	for range 300 {
		for _, name := range []string{NameUniform, NameRange} {
			g := randomGroup(rnd, rnd.IntN(2) == 0)
			for step := range 8 {
				line := g.line(name)
				result, err := ByName(name)(g.in)
				if err == nil {
					err = g.check(result)
				}
				if err == nil && name == NameUniform {
					err = g.checkUniform(result)
				}
				if err != nil {
					t.Fatalf("%s\n%v\n%s", line, err, g.resultLine(result))
				}
				if d := cmp.Diff(line, g.line(name)); d != "" {
					t.Fatalf("the input has changed: %s", d)
				}
				g.settle(rnd, result, step)
			}
		}
	}
}

func (g *group) checkUniform(result map[string]Assignment) error {
	again := g.in
	again.Members = slices.Clone(g.in.Members)
	for i := range again.Members {
		again.Members[i].Assigned = result[again.Members[i].ID]
	}
	second, err := Uniform(again)
	if err != nil {
		return err
	}
	for _, m := range g.in.Members {
		if d := cmp.Diff(text(result[m.ID]), text(second[m.ID])); d != "" && g.in.Homogeneous {
			return fmt.Errorf("the same input again moves something: %s", d)
		}
	}
	if !g.in.Homogeneous {
		return nil
	}
	total := 0
	for _, n := range g.sizes {
		total += int(n)
	}
	low := total / len(g.in.Members)
	for _, m := range g.in.Members {
		n := size(result[m.ID])
		if n < low || n > low+1 {
			return fmt.Errorf("%s gets %d of %d among %d", m.ID, n, total, len(g.in.Members))
		}
		// It keeps all that it had, up to its share.
		if had := min(size(m.Assigned), low); kept(m.Assigned, result[m.ID]) < had {
			return fmt.Errorf("%s had %d and keeps %d", m.ID, size(m.Assigned), kept(m.Assigned, result[m.ID]))
		}
	}
	return nil
}

func TestUnknownTopic(t *testing.T) {
	for _, name := range []string{NameUniform, NameRange} {
		for _, same := range []bool{true, false} {
			in := Input{Homogeneous: same, Partitions: func(id.UUID) int32 { return -1 }, Members: []Member{{ID: "a", Topics: []id.UUID{topic(1)}}}}
			if _, err := ByName(name)(in); !errors.Is(err, ErrUnknownTopic) {
				t.Errorf("%s, homogeneous %v: %v", name, same, err)
			}
			in.Members = nil
			if got, err := ByName(name)(in); err != nil || len(got) != 0 {
				t.Errorf("%s of nobody: %v, %v", name, got, err)
			}
		}
	}
	if ByName("mine") != nil {
		t.Error("an assignor of any name")
	}
}

// TestAgainstKafka gives Apache Kafka's own assignors 1,000 groups that came about by random changes, and wants the same result.
func TestAgainstKafka(t *testing.T) {
	home := os.Getenv("ORACLE_HOME")
	if home == "" {
		home = filepath.Join(os.Getenv("HOME"), ".cache", "moldau-oracle")
	}
	jars, _ := filepath.Glob(filepath.Join(home, "server-*", "kafka-group-coordinator-[0-9]*.jar"))
	if len(jars) == 0 {
		t.Skip("Apache Kafka's server is not there")
	}
	if testing.Short() {
		t.Skip("starts a Java program")
	}
	rnd := rand.New(rand.NewPCG(seed.Of(t), 2))
	var in, want strings.Builder
	for range 125 {
		name := []string{NameUniform, NameUniform, NameRange}[rnd.IntN(3)]
		g := randomGroup(rnd, rnd.IntN(2) == 0)
		for step := range 8 {
			in.WriteString(g.line(name) + "\n")
			result, err := ByName(name)(g.in)
			if err != nil {
				t.Fatal(err)
			}
			want.WriteString(g.resultLine(result) + "\n")
			g.settle(rnd, result, step)
		}
	}
	cmdline := exec.Command("java", "-Xmx256m", "-cp", filepath.Join(filepath.Dir(jars[0]), "*"), filepath.Join("testdata", "Assignors.java"))
	cmdline.Stdin = strings.NewReader(in.String())
	out, err := cmdline.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("java: %v\n%s", err, exit.Stderr)
		}
		t.Skipf("java: %v", err)
	}
	inputs, ours, theirs := strings.Split(in.String(), "\n"), strings.Split(want.String(), "\n"), strings.Split(string(out), "\n")
	if len(ours) != len(theirs) {
		t.Fatalf("%d lines, want %d", len(theirs), len(ours))
	}
	for i := range ours {
		if ours[i] != theirs[i] {
			t.Fatalf("differs from Kafka\n%s\nkafka: %s\nhere:  %s", inputs[i], theirs[i], ours[i])
		}
	}
}
