// Package wire is Kafka's wire format: the primitive types and how they are read and written, request and response headers, the
// API keys and the error codes. The messages themselves are generated from internal/wire/schema into the packages api (requests
// and responses) and logrec (payloads of records in logs).
//
// It refuses to know what any message means, and it does no I/O.
//
// # Reading
//
// A [Reader] reads one frame. It never panics; its first error sticks and ends the reading. Lengths are not believed: bytes and
// strings are cut from what is left, an array's count is held against the bytes left divided by the smallest size an element
// has at that version, and a count of tagged fields likewise. Every allocation is charged to the frame's [Budget] before it is
// made, so a frame can cost no more than 16 times its length plus 64 KiB, and all frames of a node together no more than their
// [Pool] holds. Exhaustion is ErrBudget or ErrPoolExhausted, never ErrMalformed.
//
// What Kafka accepts is accepted: any byte but 0 is true; every negative length is null; tagged fields may come in any order
// and more than once, the last one counting; a known tagged field is read without regard to the size in front of it;
// invalid UTF-8 becomes U+FFFD exactly where Java puts it; bytes
// behind a request are ignored ([Reader.Err]; [Reader.Finish] refuses them, as Kafka does behind metadata records). What Kafka
// refuses is refused: null where the version does not allow it, strings beyond 32767 bytes in compact form, a known tag at a
// version before its own, more than 10000 tagged fields in a struct or 1000000 elements in
// an array. Fields with tags unknown to this release are kept and written again.
//
// Strings are copied out of the frame. Bytes and records fields alias it: who keeps them beyond the life of the frame copies them.
//
// # Writing
//
// A [Writer] builds one message as a list of chunks, in which record data appears by reference, from memory or as a [Section].
// It is reused and then does not allocate. A field that the version written does not have is left out silently, whatever its
// value (Kafka throws for some of them: a handler that must tell looks at the version itself). A nil string, array or struct
// that may not be null at the version is written empty.
//
// # Schema files
//
// Directory schema holds one file per API or record type; tool/wiregen turns them into zz_*.go. A file begins with its kind:
//
//	api KEY NAME FLAG...                a request and a response; FLAG is broker or controller (the listeners that serve the
//	                                    API), forwarded (brokers pass it on to the controller), clusteraction (between nodes)
//	metadata TYPE                       a record of the metadata log
//	group|txn|share TYPE                key and value of a coordinator's record
//	tier TYPE                           a record of the remote log metadata topic
//	data                                a struct with its own versions
//	header                              generated into this package
//
// and goes on with its messages:
//
//	message NAME VERSIONS flexible=VERSIONS [unstable]
//	  FIELD TYPE [VERSIONS] [null[=VERSIONS]] [tag=N[@VERSIONS]] [default=VALUE] [flexible=none]
//	  struct NAME [VERSIONS]
//
// Two blanks of indentation per level. VERSIONS is "3", "0-7", "2+" or "none"; left out, it is that of what stands around. TYPE
// is bool, int8, int16, uint16, int32, uint32, int64, float64, uuid, string, bytes, records, or struct with the struct's
// fields on deeper lines below, or the name of a struct declared in the message by a struct line for use in several places; []
// in front makes an array. null gives the versions at which null is allowed, tag those at which the field is tagged, default
// the value when absent ("null" for null). Text from # on is comment. errors.txt lists the error codes in order.
//
// To add an API or a version, edit or add the file and run go run ./tool/wiregen from the root of the module.
package wire

//go:generate go -C ../.. run ./tool/wiregen
