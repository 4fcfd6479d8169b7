// Package failpoint names places in the code where a test, or an operator of a test cluster, may let a node fail: return an
// error, or end the process as if it had been killed.
//
// A Set is handed down from the composition root; there is no global registry, so that several nodes in one process fail
// separately. The nil Set is valid and does nothing, at the cost of one comparison. Points are named room.verb, as in
// "log.afterRename".
//
// A Set may be used from many goroutines.
package failpoint
