//go:build !linux

package load

// small sends small requests like large ones; what it costs is not small beside the server then.
var small = large
