package judge

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// What consumers of the classic protocol put into JoinGroup and SyncGroup is bytes to the protocol. In steps it is spelled, in lines it is
// hexadecimal, with 0x in front.

// encode puts bytes in for what is spelled in a list of name:data.
func (r *run) encode(group, list string) string {
	items := strings.Split(list, ",")
	for i, item := range items {
		name, data, _ := strings.Cut(item, ":")
		f := strings.Split(data, "/")
		if len(f) < 2 {
			continue
		}
		version, _ := strconv.Atoi(f[0][len(f[0])-1:])
		var b []byte
		switch f[0][:len(f[0])-1] {
		case "sub":
			s := logrec.NewConsumerProtocolSubscription()
			s.Topics = strings.Split(f[1], "+")
			has := f[2]
			if has[0] == '@' {
				c, _ := strconv.Atoi(has[1:])
				has = r.clients[asker{group, c}].has
			}
			for _, t := range byTopic(strings.ReplaceAll(has, "+", ",")) {
				s.OwnedPartitions = append(s.OwnedPartitions, logrec.ConsumerProtocolSubscriptionOwnedPartition{Topic: t.name, Partitions: t.partitions})
			}
			b = logrec.EncodeVersioned(s, int16(version))
		case "part":
			a := &logrec.ConsumerProtocolAssignment{}
			for _, t := range byTopic(strings.ReplaceAll(f[1], "+", ",")) {
				a.AssignedPartitions = append(a.AssignedPartitions, logrec.ConsumerProtocolAssignmentAssignedPartition{Topic: t.name, Partitions: t.partitions})
			}
			if len(f) > 2 {
				a.UserData = []byte(f[2])
			}
			b = logrec.EncodeVersioned(a, int16(version))
		default:
			continue
		}
		items[i] = fmt.Sprintf("%s:0x%x", name, b)
	}
	return strings.Join(items, ",")
}

type topicPartitions struct {
	name       string
	partitions []int32
}

// byTopic reads a list like t-0,t-1,u-2.
func byTopic(list string) (all []topicPartitions) {
	for _, tp := range strings.Split(list, ",") {
		name, n, ok := strings.Cut(tp, "-")
		p, err := strconv.Atoi(n)
		if !ok || err != nil {
			continue
		}
		i := slices.IndexFunc(all, func(t topicPartitions) bool { return t.name == name })
		if i < 0 {
			i = len(all)
			all = append(all, topicPartitions{name: name})
		}
		all[i].partitions = append(all[i].partitions, int32(p))
	}
	return all
}

// unspell returns the bytes of a text.
func unspell(s string) []byte {
	if digits, ok := strings.CutPrefix(s, "0x"); ok {
		if b, err := hex.DecodeString(digits); err == nil {
			return b
		}
	}
	return []byte(s)
}

// spell is the text of bytes.
func spell(b []byte) string {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return fmt.Sprintf("0x%x", b)
		}
	}
	return string(b)
}

var embeddedBytes = regexp.MustCompile("0x[0-9a-f]+")

// assignment reads embedded bytes that are an assignment.
func assignment(b []byte) (*logrec.ConsumerProtocolAssignment, int16, bool) {
	if len(b) < 2 || b[0] > 0 {
		return nil, 0, false
	}
	a := &logrec.ConsumerProtocolAssignment{}
	version, err := logrec.DecodeVersioned(b, a)
	return a, version, err == nil && len(logrec.EncodeVersioned(a, version)) == len(b) // nothing follows
}

// partitionsOf reads an assignment as in a line.
func partitionsOf(text string) (list string, ok bool) {
	a, _, ok := assignment(unspell(text))
	if !ok {
		return "", false
	}
	var l []string
	for _, t := range a.AssignedPartitions {
		for _, p := range t.Partitions {
			l = append(l, fmt.Sprintf("%s-%d", t.Topic, p))
		}
	}
	return strings.Join(l, ","), true
}

// ordered spells the topics of an assignment in order.
func ordered(b []byte) []byte {
	a, version, ok := assignment(b)
	if !ok {
		return b
	}
	slices.SortFunc(a.AssignedPartitions, func(x, y logrec.ConsumerProtocolAssignmentAssignedPartition) int {
		return strings.Compare(x.Topic, y.Topic)
	})
	for _, t := range a.AssignedPartitions {
		slices.Sort(t.Partitions)
	}
	return logrec.EncodeVersioned(a, version)
}
