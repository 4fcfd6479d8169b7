// Command interop drives Kafka clients that are not ours against a Moldau node in a process of its own.
//
// Every client is a small program under clients/ with the same verbs:
//
//	produce BOOTSTRAP TOPIC FROM COUNT CODEC [idempotent]   acknowledged records FROM..FROM+COUNT-1, with keys and headers
//	consume BOOTSTRAP TOPIC GROUP COUNT                     COUNT records in a group, committed; one number a line
//	transact BOOTSTRAP TOPIC ID COUNT EACH SOURCE GROUP    COUNT transactions of EACH records, transaction t those from t*EACH on,
//	                                                       with GROUP's offset t+1 for SOURCE's partition 0; each third one is
//	                                                       aborted, "committed t" is printed of the others
//
// With ISOLATION=read_committed in its environment a consumer reads what is committed only.
//
// Record i has key "k<i mod 97>", value "<i>:<64 bytes>" and, where the client knows headers, header "n" = i. A consumer checks
// these and prints i. The driver creates topics, restarts clients and the node (also by SIGKILL under load), and compares what
// was read with what was acknowledged: nothing lost, nothing doubled when idempotent, order kept within a key.
//
// It is a module of its own because the clients' dependencies are not the project's.
package main
