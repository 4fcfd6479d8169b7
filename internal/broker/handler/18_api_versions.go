package handler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// apiVersions tells what this listener serves (KIP-35), the client's own version having no say in it, and which features the
// cluster has (KIP-584). A version that is not served is answered in version 0 with the range of ApiVersions itself (KIP-511).
func (d *AdminDesk) apiVersions(r *server.Request) {
	a := api.NewApiVersionsResponse()
	if r.Unsupported {
		a.ErrorCode = wire.ErrUnsupportedVersion
		a.ApiKeys = []api.ApiVersionsResponseApiKey{{ApiKey: int16(wire.ApiVersions), MinVersion: 0, MaxVersion: 5}}
		r.Answer(a)
		return
	}
	req := api.NewApiVersionsRequest()
	if !r.Decode(req) {
		return
	}
	version := r.Version()
	switch {
	case version >= 5 && (req.ClusterID == nil) != (req.NodeID == -1),
		version >= 3 && !(validSoftware(req.ClientSoftwareName) && validSoftware(req.ClientSoftwareVersion)):
		a.ErrorCode = wire.ErrInvalidRequest
		r.Answer(a)
		return
	}
	if version >= 3 {
		r.Conn.SetSoftware(server.ClientSoftware{Name: req.ClientSoftwareName, Version: req.ClientSoftwareVersion})
	}
	if version >= 5 && req.ClusterID != nil && (*req.ClusterID != d.ClusterID || req.NodeID != int32(d.NodeID)) {
		a.ErrorCode = wire.ErrRebootstrapRequired // KIP-1242: the client talks to a broker it does not mean
		r.Answer(a)
		return
	}
	for _, x := range d.reg.APIs() {
		low, high := x.Advertised()
		a.ApiKeys = append(a.ApiKeys, api.ApiVersionsResponseApiKey{ApiKey: int16(x.Key), MinVersion: low, MaxVersion: high})
	}
	for _, f := range d.Features {
		if version < 4 && f.Min == 0 {
			continue // older clients cannot read a range that begins with 0 (KAFKA-17492)
		}
		a.SupportedFeatures = append(a.SupportedFeatures, api.ApiVersionsResponseSupportedFeature{Name: f.Name, MinVersion: f.Min, MaxVersion: f.Max})
	}
	img := d.Image()
	for _, name := range img.Features.Names() {
		level := img.Features.Level(name)
		a.FinalizedFeatures = append(a.FinalizedFeatures, api.ApiVersionsResponseFinalizedFeature{Name: name, MaxVersionLevel: level, MinVersionLevel: level})
	}
	if level := d.KRaftVersion(); level > 0 {
		a.FinalizedFeatures = append(a.FinalizedFeatures, api.ApiVersionsResponseFinalizedFeature{Name: image.KRaftVersionFeature, MaxVersionLevel: level, MinVersionLevel: level})
	}
	a.FinalizedFeaturesEpoch = int64(img.Provenance.Offset)
	r.Answer(a)
}

// validSoftware is KIP-511's rule for the names and versions that clients give of themselves: letters, digits, '-' and '.',
// neither of the latter two at the ends.
func validSoftware(s string) bool {
	alnum := func(b byte) bool { return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' }
	if s == "" || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return true
}
