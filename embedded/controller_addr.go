package embedded

// ControllerAddr returns the address of the controller's own listener, for tools that take --bootstrap-controller. It changes with
// Restart.
func (n *Node) ControllerAddr() string { return n.running().ControllerAddr() }
