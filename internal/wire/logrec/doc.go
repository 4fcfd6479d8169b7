// Package logrec holds the payloads of records that brokers and controllers write into logs: the metadata log, group offsets,
// transaction state, share state and remote log metadata; the bodies of control records; and the few versioned structs that
// travel inside other fields or files (consumer protocol, principals, producer snapshots, aborted transactions).
//
// It knows their bytes and nothing of their meaning. Messages are generated from internal/wire/schema; the framing around them
// is written here: metadata records carry a frame version, type and version as varints (KIP-631), coordinator records carry a
// type in front of the key and a version in front of the value (KIP-915), other payloads a version.
//
// Decoders refuse trailing bytes in metadata records, where Kafka does, and ignore them behind keys and versioned payloads,
// where Kafka does that. All of them bound what they allocate by the length of the payload.
package logrec
