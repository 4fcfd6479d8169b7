package node

// ControllerAddr returns the address of the first controller listener, "" when the node has none.
func (n *Node) ControllerAddr() string {
	for _, b := range n.listeners.all() {
		if b.controller {
			return b.l.Addr().String()
		}
	}
	return ""
}
