// Command wiregen writes the Go codecs of internal/wire, internal/wire/api and internal/wire/logrec from the schema files in
// internal/wire/schema. Run it from the root of the module: go run ./tool/wiregen. It leaves files alone that are up to date,
// so that a second run changes nothing. The format of the schema files is described in package wire.
package main
