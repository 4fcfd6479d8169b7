package embedded

import "github.com/moldau-io/moldau/internal/base/vfs"

// SetFree bounds how many bytes the files of a node in memory may still grow by; negative: no bound.
func (n *Node) SetFree(bytes int64) { n.mem.SetFree(bytes) }

// Fail makes operations on the node's files fail, until the next start.
func (n *Node) Fail(r vfs.Rule) { n.faults.Add(r) }
