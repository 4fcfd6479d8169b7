package image

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// ACLs are the access control entries by their id.
type ACLs struct {
	byID Map[id.UUID, *logrec.AccessControlEntryRecord]
}

func newACLs() *ACLs {
	return &ACLs{byID: NewMap[id.UUID, *logrec.AccessControlEntryRecord](func(u id.UUID) uint64 { return HashUUID(u) })}
}

// Len returns the number of entries.
func (a *ACLs) Len() int { return a.byID.Len() }

// All iterates over the entries.
func (a *ACLs) All() iter.Seq2[id.UUID, *logrec.AccessControlEntryRecord] { return a.byID.All() }

// ScramKey names one SCRAM credential: a user may have one of each mechanism (1 SCRAM-SHA-256, 2 SCRAM-SHA-512).
type ScramKey struct {
	User      string
	Mechanism int8
}

// Scram are the SCRAM credentials (KIP-900).
type Scram struct {
	byKey Map[ScramKey, *logrec.UserScramCredentialRecord]
}

func newScram() *Scram {
	return &Scram{byKey: NewMap[ScramKey, *logrec.UserScramCredentialRecord](func(k ScramKey) uint64 {
		return HashString(k.User) + uint64(k.Mechanism)
	})}
}

// Get returns one credential, or nil.
func (s *Scram) Get(k ScramKey) *logrec.UserScramCredentialRecord {
	r, _ := s.byKey.Get(k)
	return r
}

// All iterates over the credentials.
func (s *Scram) All() iter.Seq2[ScramKey, *logrec.UserScramCredentialRecord] { return s.byKey.All() }

// Tokens are the delegation tokens by token id.
type Tokens struct {
	byID Map[string, *logrec.DelegationTokenRecord]
}

func newTokens() *Tokens {
	return &Tokens{byID: NewMap[string, *logrec.DelegationTokenRecord](HashString)}
}

// Get returns one token, or nil.
func (t *Tokens) Get(tokenID string) *logrec.DelegationTokenRecord {
	r, _ := t.byID.Get(tokenID)
	return r
}

// All iterates over the tokens.
func (t *Tokens) All() iter.Seq2[string, *logrec.DelegationTokenRecord] { return t.byID.All() }

// QuotaEntity is one kind of quota owner: its parts in order of type, and the values set for it.
type QuotaEntity struct {
	Entity []logrec.ClientQuotaRecordEntity
	Values map[string]float64
}

// Quotas are the client quotas by entity.
type Quotas struct {
	byEntity Map[string, *QuotaEntity]
}

func newQuotas() *Quotas { return &Quotas{byEntity: NewMap[string, *QuotaEntity](HashString)} }

// Of returns the quotas of one entity, or nil. The parts of the entity may come in any order.
func (q *Quotas) Of(entity []logrec.ClientQuotaRecordEntity) *QuotaEntity {
	_, key := quotaKey(entity)
	e, _ := q.byEntity.Get(key)
	return e
}

// All iterates over the entities that have quotas.
func (q *Quotas) All() iter.Seq[*QuotaEntity] {
	return func(yield func(*QuotaEntity) bool) {
		for _, e := range q.byEntity.All() {
			if !yield(e) {
				return
			}
		}
	}
}

// quotaKey returns the parts of an entity in order of type, and the key under which it is kept.
func quotaKey(parts []logrec.ClientQuotaRecordEntity) ([]logrec.ClientQuotaRecordEntity, string) {
	entity := slices.Clone(parts)
	slices.SortFunc(entity, func(a, b logrec.ClientQuotaRecordEntity) int { return strings.Compare(a.EntityType, b.EntityType) })
	var key strings.Builder
	for _, e := range entity {
		key.WriteString(e.EntityType)
		if e.EntityName == nil {
			key.WriteString("\x00d") // the default of the type
		} else {
			key.WriteString("\x00n" + *e.EntityName)
		}
		key.WriteByte(0)
	}
	return entity, key.String()
}

func (q *Quotas) with(r *logrec.ClientQuotaRecord) *Quotas {
	entity, key := quotaKey(r.Entity)
	n := &QuotaEntity{Entity: entity, Values: map[string]float64{}}
	if old, ok := q.byEntity.Get(key); ok {
		n.Values = maps.Clone(old.Values)
	}
	if r.Remove {
		delete(n.Values, r.Key)
	} else {
		n.Values[r.Key] = r.Value
	}
	if len(n.Values) == 0 {
		return &Quotas{byEntity: q.byEntity.Without(key)}
	}
	return &Quotas{byEntity: q.byEntity.With(key, n)}
}

func (q *Quotas) records(emit func(Record) bool) bool {
	for e := range q.All() {
		for _, key := range slices.Sorted(maps.Keys(e.Values)) {
			if !emit(Record{Message: &logrec.ClientQuotaRecord{Entity: e.Entity, Key: key, Value: e.Values[key]}}) {
				return false
			}
		}
	}
	return true
}
