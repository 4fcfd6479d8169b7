// Package disk hands one log directory back and forth between Apache Kafka 4.4 and Moldau and checks that nothing is lost or
// changed on the way, in either direction, after a clean stop and after kill -9.
//
// What a test wrote and had acknowledged is kept in a model (model.go): every record with its offset, the commits of groups,
// topics with their ids, configurations, quotas, credentials, feature levels. After each opening all of it is read back through a
// client that is not ours (franz-go) and compared. What Kafka's own tools say about the files (dump-log with its sanity check and
// its decoders) is the second judge.
//
// Two clients live across the change (across.go): an idempotent producer that writes on with its sequence, and transactions that are
// begun at one product and ended at the other. TestFiles goes through the kinds of files (files_test.go): most steps change what the
// writer left, so that it is seen whether the reader has read it. TestEveryKindIsProven needs no Kafka.
//
// The tests start Apache Kafka: they run with -kafka only (make disk), and skip where there is no Java or no Apache Kafka beside
// the project. One Java process runs at a time. -rounds says how often a directory changes hands; the seed is printed,
// -seed or MOLDAU_SEED takes another. -keep DIR keeps the directories.
package disk
