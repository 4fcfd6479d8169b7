package api

import (
	"fmt"

	"github.com/moldau-io/moldau/internal/wire"
)

//go:generate go -C ../../.. run ./tool/wiregen

// Info is what there is to know about one API.
type Info struct {
	Key      wire.APIKey
	Name     string
	Min, Max int16 // the versions there are, inclusive
	// FlexibleFrom is the first version with tagged fields and compact lengths; -1 if there is none.
	FlexibleFrom int16
	// Broker and Controller say on which kinds of listener the API is served.
	Broker, Controller bool
	// Forwarded says that a broker passes the request on to the controller, ClusterAction that it is for nodes only.
	Forwarded, ClusterAction bool
	// LatestUnstable says that Max is served only with unstable.api.versions.enable.
	LatestUnstable bool
	// NewRequest and NewResponse return messages with their defaults.
	NewRequest  func() wire.Request
	NewResponse func() wire.Response
}

// Table returns every API in the order of keys. The entries are shared: do not change them.
func Table() []Info { return table[:] }

// Lookup returns the API of a key.
func Lookup(key wire.APIKey) (*Info, bool) {
	if key < 0 || int(key) >= len(index) || index[key] == 0 {
		return nil, false
	}
	return &table[index[key]-1], true
}

// MaxStable returns the highest version to be served: Max, or one less if Max is unstable and unstable is not wanted. It may
// be below Min, and then the API is not served at all.
func (i *Info) MaxStable(unstable bool) int16 {
	if i.LatestUnstable && !unstable {
		return i.Max - 1
	}
	return i.Max
}

// Flexible reports whether a version has tagged fields and compact lengths.
func (i *Info) Flexible(version int16) bool { return i.FlexibleFrom >= 0 && version >= i.FlexibleFrom }

// RequestHeaderVersion returns the header version of requests at a version, which need not be one that is served.
func (i *Info) RequestHeaderVersion(version int16) int16 {
	if i.Flexible(version) {
		return 2
	}
	return 1
}

// ResponseHeaderVersion returns the header version of responses at a version. An ApiVersions response never has tags in its
// header: the client does not know yet what the broker understands (KIP-511).
func (i *Info) ResponseHeaderVersion(version int16) int16 {
	if i.Flexible(version) && i.Key != wire.ApiVersions {
		return 1
	}
	return 0
}

// ReadRequestHeader reads the header at the start of a frame. The header's form follows from the key and version it begins
// with; an unknown key, or a header that is not well formed, is an error. A version that is not served is not: see Served.
func ReadRequestHeader(r *wire.Reader) (wire.RequestHeader, *Info, error) {
	var h wire.RequestHeader
	peek := *r
	key, version := wire.APIKey(peek.Int16()), peek.Int16()
	if err := peek.Err(); err != nil {
		return h, nil, fmt.Errorf("request header: %w", err)
	}
	info, ok := Lookup(key)
	if !ok {
		return h, nil, fmt.Errorf("request header: %w: unknown API key %d", wire.ErrMalformed, key)
	}
	h.Decode(r, info.RequestHeaderVersion(version))
	if err := r.Err(); err != nil {
		return h, info, fmt.Errorf("header of %s request: %w", info.Name, err)
	}
	return h, info, nil
}

// Served reports whether requests at a version are served.
func (i *Info) Served(version int16, unstable bool) bool {
	return version >= i.Min && version <= i.MaxStable(unstable)
}
