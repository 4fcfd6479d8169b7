package conf

import (
	"slices"
	"strings"
	"sync"
)

type table struct {
	scoped [4][]*Key          // sorted by name
	byName [4]map[string]*Key // same keys
}

// keyTable builds the index once; it is read-only afterwards.
var keyTable = sync.OnceValue(func() *table {
	t := new(table)
	add := func(scope Scope, parts ...[]Key) {
		t.byName[scope] = make(map[string]*Key)
		for _, part := range parts {
			for i := range part {
				k := &part[i]
				k.Scope = scope
				if t.byName[scope][k.Name] != nil {
					panic("conf: key " + k.Name + " is listed twice")
				}
				t.byName[scope][k.Name] = k
				t.scoped[scope] = append(t.scoped[scope], k)
			}
		}
		slices.SortFunc(t.scoped[scope], func(a, b *Key) int { return strings.Compare(a.Name, b.Name) })
	}
	add(BrokerScope, kraftKeys(), networkKeys(), logKeys(), replicationKeys(), groupCoordinatorKeys(), transactionKeys(),
		securityKeys(), remoteKeys(), metricKeys(), otherBrokerKeys())
	add(TopicScope, topicKeys())
	add(GroupScope, groupKeys())
	add(ClientMetricsScope, clientMetricsKeys())
	return t
})

// Keys returns all keys of a scope, sorted by name, internal ones included.
func Keys(scope Scope) []*Key { return slices.Clone(keyTable().scoped[scope]) }

// Lookup finds a key by name.
func Lookup(scope Scope, name string) (*Key, bool) {
	k, ok := keyTable().byName[scope][name]
	return k, ok
}
