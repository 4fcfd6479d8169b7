// Package schema carries the text of the record schemas, for programs that show records by their fields' names (dump-log).
// The codecs themselves are generated from the same files and do not need it. It refuses to interpret: readers of the text
// are tool/wiregen and the caller.
package schema

import "embed"

// Records holds the files of all records in logs, one folder per kind: metadata, group, txn, share, tier, and data for the
// bodies of control records and the structs inside other fields.
//
//go:embed metadata group txn share tier data
var Records embed.FS
