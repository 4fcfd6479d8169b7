package record

import (
	"fmt"
	"io"
)

// Iterator visits the records of one batch in order. Use:
//
//	it := batch.Records(limitBytes)
//	defer it.Close()
//	var r record.Record
//	for it.Next(&r) {
//		...
//	}
//	if err := it.Err(); err != nil { ... }
//
// An uncompressed batch is walked where it lies. A compressed one is decompressed as a stream into a window that holds one
// record at least and is reused; nothing is allocated per record.
type Iterator struct {
	facts batchFacts
	left  int32 // records still to come
	err   error

	src    []byte  // what can be parsed now
	stream *stream // where more of src comes from; nil when src is all there is
	skim   bool    // keys and values are not wanted: records larger than the window are skipped through
	most   int     // bytes that a record of a compressed batch may have; 0: any
}

// Records starts an iteration over b. limitBytes bounds what a compressed payload may decompress to; it does not matter for
// uncompressed ones. The batch's CRC is not checked.
func (b Batch) Records(limitBytes int) Iterator {
	it := Iterator{facts: factsOf(b), left: b.Count()}
	if it.left < 0 {
		it.err = &InvalidError{Reason: fmt.Sprintf("Found invalid record count %d in magic v%d batch", it.left, b.Magic())}
		return it
	}
	if it.left == 0 {
		return it
	}
	codec := b.Codec()
	if codec == None {
		it.src = b.Payload()
		return it
	}
	it.stream, it.err = openStream(codec, b.Payload(), limitBytes)
	return it
}

// BoundRecords makes a record of more bytes end the iteration, if the batch is compressed; 0 is no bound. Its size is seen before
// the record is decompressed.
func (it *Iterator) BoundRecords(bytes int) {
	if it.stream != nil {
		it.most = bytes
	}
}

// Next fills r with the next record; false at the end and on an error, which Err then returns.
func (it *Iterator) Next(r *Record) bool {
	if it.err != nil || it.left == 0 {
		return false
	}
	for {
		size, rest, ok := readVarint(it.src)
		if ok && it.most > 0 && int(size) > it.most {
			return it.fail(reasonTooLarge(size, it.most))
		}
		if ok && size >= 0 && int(size) <= len(rest) {
			return it.take(r, rest[:size:size], rest[size:])
		}
		switch {
		case ok && size < 0:
			return it.fail(reasonStructure)
		case !ok && len(it.src) >= 5:
			return it.fail(reasonStructure)
		case it.stream != nil && it.skim && ok && int(size) > windowBytes-maxVarintBytes:
			return it.skimRecord(r, len(it.src)-len(rest), int(size))
		case it.stream != nil:
			if !it.fill() {
				return false
			}
		case !ok:
			return it.fail(reasonEOF)
		default:
			return it.fail(reasonRecordCut(size, len(rest)))
		}
	}
}

// take parses the record whose body it is, and moves on to rest.
func (it *Iterator) take(r *Record, body, rest []byte) bool {
	if reason := r.parse(body, &it.facts); reason != "" {
		return it.fail(reason)
	}
	r.SizeBytes = len(it.src) - len(rest)
	it.src = rest
	it.left--
	return it.left > 0 || it.finish()
}

// fill brings more decompressed bytes behind src, keeping what is unread.
func (it *Iterator) fill() bool {
	src, err := it.stream.more(it.src)
	it.src = src
	switch err {
	case nil:
		return true
	case io.EOF:
		return it.fail(reasonEOF)
	}
	it.err = err
	return false
}

// finish checks that the last record was followed by nothing. The record itself stays valid.
func (it *Iterator) finish() bool {
	more := len(it.src) > 0
	if !more && it.stream != nil {
		var err error
		if more, err = it.stream.anyMore(); err != nil {
			it.err = err
			return false
		}
	}
	if more {
		return it.fail("Incorrect declared batch size, records still remaining in file")
	}
	return true
}

func (it *Iterator) fail(reason string) bool {
	it.err = &InvalidError{Reason: reason}
	return false
}

// Err is the error that ended the iteration: *InvalidError, *DecompressError or *TooLargeError; nil at the end.
func (it *Iterator) Err() error { return it.err }

// Close gives the decompressor back. Slices of compressed records are invalid from here on.
func (it *Iterator) Close() {
	if it.stream != nil {
		it.stream.close()
		it.stream, it.src = nil, nil
	}
}

const (
	reasonStructure = "Found invalid record structure"
	reasonEOF       = "Incorrect declared batch size, premature EOF reached"
)

func reasonSize(want, got int) string {
	return fmt.Sprintf("Invalid record size: expected to read %d bytes in record payload, but instead read %d", want, got)
}

func reasonTooLarge(size int32, most int) string {
	return fmt.Sprintf("Invalid record size: %d exceeds the configured maximum record size of %d.", size, most)
}

func reasonRecordCut(size int32, remaining int) string {
	return fmt.Sprintf("Invalid record size: expected %d bytes in record payload, but instead the buffer has only %d remaining bytes.", size, remaining)
}

func reasonHeaderCount(n int32) string {
	return fmt.Sprintf("Found invalid number of record headers %d", n)
}

func reasonHeadersTooMany(n int32) string {
	return fmt.Sprintf("Found invalid number of record headers. %d is larger than the remaining size of the buffer", n)
}

func reasonHeaderKey(n int32) string {
	return fmt.Sprintf("Invalid negative header key size %d", n)
}
