package embedded

import "github.com/moldau-io/moldau/internal/base/vfs"

// FS returns the node's files: tests look at what a configuration does to them.
func (n *Node) FS() vfs.FS { return n.faults }
