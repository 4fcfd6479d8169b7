package disk

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// model is what the directory must hold: the facts of the last reading and all that was acknowledged since.
type model struct {
	facts
	// loose are paths' beginnings under which more may be found than was acknowledged: something was on its way when the node was
	// killed. Everything acknowledged must be there all the same.
	loose []string
	// committed counts the records of committed transactions by the path of their partition, for those that no other open
	// transaction holds back.
	committed map[string]int
}

// addCommitted notes that a transaction with so many records was committed.
func (m *model) addCommitted(topic string, partition int32, records int) {
	if m.committed == nil {
		m.committed = map[string]int{}
	}
	m.committed[fmt.Sprintf("log/%s/%d/committed", topic, partition)] += records
}

// difference is the list of facts that are not as the model has them, at most most of them. skip leaves facts out on both sides.
func (m *model) difference(got facts, most int, skip func(path string) bool) []string {
	var out []string
	say := func(format string, args ...any) {
		if len(out) <= most {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(m.facts)) {
		want := m.facts[path]
		if skip(path) {
			continue
		}
		switch have, ok := got[path]; {
		case !ok:
			say("%s is gone; was: %s", path, want)
		case have != want:
			say("%s\n\t\tis:  %s\n\t\twas: %s", path, have, want)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := m.facts[path]; ok || skip(path) {
			continue
		}
		if !slices.ContainsFunc(m.loose, func(p string) bool { return strings.HasPrefix(path, p) }) {
			say("%s came from nowhere: %s", path, got[path])
		}
	}
	if len(out) > most {
		out[most] = "..."
	}
	return out
}

// set notes an acknowledged change.
func (m *model) set(path, value string) { m.facts[path] = value }

// forget drops the facts below paths, which a change made uncertain or void.
func (m *model) forget(prefixes ...string) {
	maps.DeleteFunc(m.facts, func(path, _ string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(path, p) })
	})
}

// killed allows for what a kill may undo: a log start that DeleteRecords moved is written to its checkpoint once a minute.
func (m *model) killed() {
	m.forget("log/"+topicTrim+"/0/", "offset/"+topicTrim+"/0/start", "time/"+topicTrim+"/0/")
	m.loose = append(m.loose, "log/"+topicTrim+"/0/", "offset/"+topicTrim+"/0/start", "time/"+topicTrim+"/0/")
}

// missing lists the facts of the model that got contradicts, where got may hold more: what was acknowledged must be readable.
func (m *model) missing(n *node, got facts, most int) []string {
	return (&model{facts: m.facts, loose: []string{""}}).difference(got, most, func(path string) bool {
		return !n.asked(path) || !acknowledged(path)
	})
}

// acknowledged facts are those that a change sets when it is acknowledged; the others follow from them.
func acknowledged(path string) bool {
	kind, rest, _ := strings.Cut(path, "/")
	switch kind {
	case "topic", "config", "commit", "acl", "quota", "scram":
		return true
	case "log":
		return strings.Contains(path, "/@") && !compacted(rest)
	}
	return false
}

// volatile facts change without anybody's request: what the coordinators write into their topics by themselves is checked as a
// prefix, what a cleaner leaves of the compacted topic by its keys.
func volatile(path string) bool {
	parts := strings.SplitN(path, "/", 4)
	switch parts[0] {
	case "log":
		return internal(parts[1]) && strings.HasSuffix(path, "/bytes") || compacted(parts[1])
	case "time", "producer":
		return compacted(parts[1])
	case "offset":
		return compacted(parts[1]) && parts[3] != "end" && parts[3] != "stable"
	}
	return false
}

// compacted topics have names that begin so.
func compacted(topic string) bool { return strings.HasPrefix(topic, topicCompact) }

// ownWrites are the beginnings of the paths under which a node writes by itself.
func ownWrites() []string { return []string{"log/__"} }
