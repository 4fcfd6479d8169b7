// Package api holds the requests and responses of every API of the protocol, generated from internal/wire/schema/api, and the
// table of APIs with their versions and listeners.
//
// It knows the form of messages and nothing of their meaning. The rules of decoding and encoding are those of package wire.
//
// A message is named as the protocol names it (FetchRequest); a struct inside it is named after its parent and the singular of
// the field (FetchRequestTopicPartition), a struct used in several places after the message (ConsumerGroupDescribeResponseAssignment).
// Nullable strings and structs are pointers, a null array or byte sequence is nil and an empty one is not. NewX returns X with
// the protocol's defaults. Everything here is plain data, owned by whoever made it.
package api
