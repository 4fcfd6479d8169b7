// Package cli is the program as seen from the shell: `moldau start`, and the tools that Apache Kafka ships as kafka-*.sh
// scripts, with the same flags, the same output and the same exit codes. Called under a script's name (a link named
// kafka-topics.sh, or kafka-topics) the binary is that script.
//
// It refuses to know the broker: `start` hands properties to internal/node, `storage` to internal/engine/quorum; the client
// tools speak the protocol through franz-go like any foreign client; dump-log and metadata-shell read files with the decoders of
// internal/record and internal/wire/logrec, the latter as a fold into an image of core/image, and never lock a directory nor open
// one for writing.
//
// Option parsing follows joptsimple, which Kafka's tools use: `--flag value`, `--flag=value` and `-flag value`, no
// abbreviations, options in any order, usage on standard error with exit code 1, even for --help. Texts of errors are Kafka's,
// since scripts match them; the sentences of the help are ours. Java stack traces are not imitated. The tools with subcommands
// (storage, features, cluster, metadata-quorum, metadata-shell) follow argparse4j instead, as theirs do: abbreviations, usage lines
// of 75 columns, --help on standard output with exit code 0.
//
// Concurrency: a tool runs on the caller's goroutine and ends when its context does. Nothing here keeps state between calls, so
// several tools may run in one process.
package cli
