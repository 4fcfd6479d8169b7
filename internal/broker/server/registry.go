package server

import (
	"fmt"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// maxKey bounds the API keys a Registry holds; Kafka 4.4 ends at 94.
const maxKey = 127

// API is one entry of a Registry: what a handler serves.
type API struct {
	// Key is the API key.
	Key wire.APIKey
	// Min and Max bound, both inclusive, the versions that are served.
	Min, Max int16
	// advertisedMin is the least version ApiVersions names; it differs from Min for Produce alone, whose old versions are named
	// because clients probe for them, and refused (KIP-896, KAFKA-18659).
	advertisedMin int16
	// Pipelined requests may start while earlier ones of the same API and connection wait for their answers: those that are taken
	// in order and wait only for their commit (Produce, OffsetCommit). All others are barriers.
	Pipelined bool
	// Handle serves one request. It runs in the connection's reader goroutine and owes the request exactly one answer.
	Handle func(*Request)
}

// Advertised returns the range that ApiVersions names.
func (a API) Advertised() (least, greatest int16) { return a.advertisedMin, a.Max }

// Registry maps API keys to handlers. It is filled before the server starts and not changed afterwards.
type Registry struct {
	apis [maxKey + 1]*apiEntry
}

type apiEntry struct {
	API
	name         string
	flexibleFrom int16 // first version with tagged fields, -1 if none
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{} }

// Register adds an API. A key registered twice, or a range that 4.4 does not have, is a mistake in the program and panics.
func (r *Registry) Register(a API) {
	if a.Key < 0 || a.Key > maxKey || a.Min < 0 || a.Max < a.Min || a.Handle == nil {
		panic(fmt.Sprintf("server: bad registration of API %d versions %d to %d", a.Key, a.Min, a.Max))
	}
	if r.apis[a.Key] != nil {
		panic(fmt.Sprintf("server: API %d registered twice", a.Key))
	}
	a.advertisedMin = a.Min
	if a.Key == wire.Produce {
		a.advertisedMin = 0
	}
	info, ok := api.Lookup(a.Key)
	if !ok || a.Min < info.Min || a.Max > info.Max {
		panic(fmt.Sprintf("server: API %v has no versions %d to %d", a.Key, a.Min, a.Max))
	}
	r.apis[a.Key] = &apiEntry{API: a, name: a.Key.String(), flexibleFrom: info.FlexibleFrom}
}

// Lookup returns the entry of a key.
func (r *Registry) Lookup(key wire.APIKey) (API, bool) {
	if e := r.lookup(key); e != nil {
		return e.API, true
	}
	return API{}, false
}

// APIs returns all entries in order of their keys.
func (r *Registry) APIs() []API {
	var all []API
	for _, e := range r.apis {
		if e != nil {
			all = append(all, e.API)
		}
	}
	return all
}

func (r *Registry) lookup(key wire.APIKey) *apiEntry {
	if key < 0 || key > maxKey {
		return nil
	}
	return r.apis[key]
}
