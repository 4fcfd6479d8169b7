// Package record reads, builds, checks and rewrites Kafka's record batches (message format v2) as views over bytes.
//
// A Batch is a slice that holds exactly one batch, header and records. Its accessors read the header where it lies; its
// setters write it where it lies. Nothing here decodes a batch into objects: records are visited one at a time by an
// Iterator that fills one caller-owned Record with slices of the batch (or, for compressed batches, of one reusable
// window over the decompressed stream).
//
//	offset len  field
//	     0   8  base offset             outside the CRC: assigned in place by the leader
//	     8   4  batch length            bytes after this field
//	    12   4  partition leader epoch  outside the CRC: assigned in place by the leader
//	    16   1  magic (2)
//	    17   4  CRC-32C                 of everything from the attributes to the end
//	    21   2  attributes              0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
//	    23   4  last offset delta
//	    27   8  base timestamp          (delete horizon when bit 6 is set, KIP-534)
//	    35   8  max timestamp
//	    43   8  producer id
//	    51   2  producer epoch
//	    53   4  base sequence
//	    57   4  record count
//	    61   -  records, compressed as a whole when the codec says so
//
// What it refuses to be: it opens no files, knows no partitions, keeps no producer state, and takes the time as an
// argument. Formats v0 and v1 are read (Legacy), as old logs hold them, and never written; where only v2 may be, Next says
// LegacyError.
//
// Invariants. No length or count found in the bytes is trusted: a Batch handed out by Next lies inside its input and is at
// least a header long; memory for decompression grows only with bytes that came out of the decompressor and ends at the
// bound given by the caller. Third-party decompressors run under recover; a panic in one is a DecompressError.
//
// Concurrency. A Batch is plain memory: whoever owns the bytes owns the batch. Iterator, Builder and Validated are for one
// goroutine. The pools of (de)compressors are shared, safe for concurrent use and without meaning: dropping them changes
// nothing but speed.
package record
