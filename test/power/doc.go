// Package power takes the power away from a node's disk: an ext4 file system in a loop file is shut down without flushing its
// journal (EXT4_IOC_SHUTDOWN), unmounted and mounted again, as after a machine lost its power. It also fills a small one until it
// is really full, and lets fsync, reads and sends fail under a running node with strace.
//
// It needs root, loop devices and mkfs.ext4 (and strace for the failing calls); what is missing is said and skipped. What it cannot show is
// a disk that lies about its cache, or writes in another order: the crash matrix of the log does that in memory.
//
//	go test ./test/power -power -v [-rounds 500]
package power
