// Package lifecycle is a broker's relation to the controller, from its registration to its end (KIP-500, KIP-631).
//
//	register --> heartbeat, fenced, until the metadata is read up to the registration --> unfence --> heartbeat ...
//	... controlled shutdown: leaderships move away --> granted --> gone
//
// The rules are a pure state machine ([machine]): events in, at most one request out, time as an argument. The [Manager] around
// it sends the requests over the line to the controller, tells the time, and publishes what others need: the broker epoch, and
// when the broker was unfenced. Nothing waits for a fixed time: the first unfence follows as soon as the image holds the
// registration, and a heartbeat goes out at once whenever something that it carries has changed.
//
// Beside it, [Assignments] tells the controller in which log directories the broker holds its partitions (KIP-858), and
// [ControllerRegistration] registers the controller of the process (KIP-919).
//
// The package refuses to decide anything about partitions, and to open or close anything: whoever composes the node listens to
// Unfenced and Failed, and waits in Shutdown.
//
// A Manager's mutex guards the machine; it is not held while a request is sent or a callback of others runs.
package lifecycle
