// Package vfs is the file system as the storage rooms see it: a handful of operations behind two small interfaces, so that the
// same log code runs on a disk, in memory, and on a disk that fails on purpose.
//
// Three implementations:
//
//   - OS is the operating system's file system.
//   - Mem keeps everything in memory and remembers what has been made durable; CrashClone yields the file system a machine
//     would find after a power loss: unsynced bytes lost or torn, renames and creations undone unless the directory was synced.
//   - Faults wraps another FS and makes chosen operations fail, write short, or "crash" (everything fails from then on).
//
// What the package refuses to be: a general file library. There are no working directories, no symbolic links, no permissions
// beyond creation modes, no memory maps.
//
// # Assumptions about disks
//
// A successful File.Sync makes the file's bytes and length durable, and on the systems we run on also the file's own directory
// entry's target, but not its name: a creation, rename or removal is durable only after SyncDir of the directory that holds
// the name. A failed Sync leaves the unsynced pages in an unknown state; callers must not sync again and believe the answer.
// A write may be torn at any byte. A rename is atomic with respect to a crash: old or new content, never a mixture.
//
// # Concurrency
//
// Every FS and every File may be used from many goroutines. Reads and writes carry their own positions (pread, pwrite); only
// File.Write keeps a position, which belongs to the one goroutine that writes a file sequentially.
package vfs
