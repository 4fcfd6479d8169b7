package replica

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Fault says that a partition panicked under somebody else's hands, a coordinator's for one: it may be locked for ever, and the
// node should end.
func (m *Manager) Fault(err error) { m.fault(err) }

// fault is deferred by the goroutines of this package. A panic in one of them leaves requests without their end, or locks held:
// it is logged and given to tell, whose owner stops the node.
func fault(logger *slog.Logger, what string, tell func(error)) {
	p := recover()
	if p == nil {
		return
	}
	logger.Error(what+" panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	tell(fmt.Errorf("%s: panic: %v", what, p))
}
