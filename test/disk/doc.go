// Package disk hands one log directory back and forth between Apache Kafka 4.4 and Moldau and checks that nothing is lost or
// changed on the way, in either direction, after a clean stop and after kill -9.
//
// What a test wrote and had acknowledged is kept in a model (model.go): every record with its offset, the commits of groups,
// topics with their ids, configurations, quotas, credentials, feature levels. After each opening all of it is read back through a
// client that is not ours (franz-go) and compared. What Kafka's own tools say about the files (dump-log with its sanity check and
// its decoders) is the second judge.
//
// The tests start Apache Kafka: they run with -kafka only (make disk), and skip where there is no Java or no Apache Kafka beside
// the project. One Java process runs at a time. -rounds says how often a directory changes hands; a seed is printed, -seed repeats
// it. -keep DIR keeps the directories.
package disk
