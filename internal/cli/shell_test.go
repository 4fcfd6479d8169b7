package cli

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// everyKind are records that put something into every directory of the shell's tree.
func everyKind() []image.Record {
	str := func(s string) *string { return &s }
	dirs := []id.UUID{{0: 0x80, 15: 7}, {0: 1, 15: 7}}
	topic := id.UUID{3: 9, 15: 1}
	endpoint := func(name string, protocol int16) logrec.RegisterBrokerRecordEndPoint {
		return logrec.RegisterBrokerRecordEndPoint{Name: name, Host: "h", Port: 9092, SecurityProtocol: protocol}
	}
	change := logrec.NewBrokerRegistrationChangeRecord()
	change.BrokerID, change.BrokerEpoch, change.Fenced = 2, 8, -1
	messages := []logrec.MetadataRecord{
		&logrec.RegisterBrokerRecord{BrokerID: 1, BrokerEpoch: 7, IncarnationID: topic, Fenced: true, LogDirs: dirs, CordonedLogDirs: dirs[:1], Rack: str("r1"),
			EndPoints: []logrec.RegisterBrokerRecordEndPoint{endpoint("Z", 3), endpoint("A", 0)},
			Features: []logrec.RegisterBrokerRecordFeature{{Name: "metadata.version", MinSupportedVersion: 7, MaxSupportedVersion: 33},
				{Name: "a", MinSupportedVersion: 1, MaxSupportedVersion: 1}, {Name: "z", MaxSupportedVersion: 32767}}},
		&logrec.RegisterBrokerRecord{BrokerID: 2, BrokerEpoch: 8, Fenced: true, EndPoints: []logrec.RegisterBrokerRecordEndPoint{}, Features: []logrec.RegisterBrokerRecordFeature{}},
		change,
		&logrec.RegisterControllerRecord{ControllerID: 3, IncarnationID: topic, EndPoints: []logrec.RegisterControllerRecordEndPoint{{Name: "C", Host: "c", Port: 1}},
			Features: []logrec.RegisterControllerRecordFeature{{Name: "kraft.version", MaxSupportedVersion: 1}}},
		&logrec.TopicRecord{Name: "orders", TopicID: topic},
		&logrec.PartitionRecord{TopicID: topic, PartitionID: 0, Replicas: []int32{1, 2}, Isr: []int32{1}, Leader: 1, RemovingReplicas: []int32{2}, AddingReplicas: []int32{},
			LeaderEpoch: 3, PartitionEpoch: 4, Directories: dirs, EligibleLeaderReplicas: []int32{2}, LastKnownElr: []int32{1}},
		&logrec.PartitionRecord{TopicID: topic, PartitionID: 10, Replicas: []int32{1}, Isr: []int32{1}, Leader: -1, LeaderRecoveryState: 1, RemovingReplicas: []int32{},
			AddingReplicas: []int32{}, Directories: dirs[:1]},
		&logrec.ConfigRecord{ResourceType: 2, ResourceName: "orders", Name: "retention.ms", Value: str("1 000")},
		&logrec.ConfigRecord{ResourceType: 4, Name: "a", Value: str("b")},
		&logrec.ConfigRecord{ResourceType: 4, ResourceName: "1", Name: "a", Value: str("")},
		&logrec.ConfigRecord{ResourceType: 16, ResourceName: "m", Name: "interval.ms", Value: str("5")},
		&logrec.ConfigRecord{ResourceType: 32, ResourceName: "g", Name: "consumer.session.timeout.ms", Value: str("50000")},
		&logrec.ClientQuotaRecord{Entity: []logrec.ClientQuotaRecordEntity{{EntityType: "user", EntityName: str("u(1)")}, {EntityType: "client-id", EntityName: str(`c\`)}},
			Key: "consumer_byte_rate", Value: 1e9},
		&logrec.ClientQuotaRecord{Entity: []logrec.ClientQuotaRecordEntity{{EntityType: "ip", EntityName: str("10.0.0.1")}}, Key: "connection_creation_rate", Value: 0.5},
		&logrec.ProducerIDsRecord{NextProducerID: 4000},
		&logrec.AccessControlEntryRecord{ID: topic, ResourceType: 2, ResourceName: "orders", PatternType: 4, Principal: "User:p", Host: "*", Operation: 3, PermissionType: 3},
		&logrec.UserScramCredentialRecord{Name: "alice", Mechanism: 1, Salt: []byte{1, 0xff}, StoredKey: []byte{2}, ServerKey: []byte{3}, Iterations: 4096},
		&logrec.DelegationTokenRecord{TokenID: "tok", Owner: "User:o", Requester: "User:q", Renewers: []string{"User:a", "User:b"}, IssueTimestamp: 1, MaxTimestamp: 2, ExpirationTimestamp: 3},
	}
	versions := map[int16]int16{27: 4, 3: 2, 17: 3, 5: 2, 27 + 100: 0}
	var out []image.Record
	for _, m := range messages {
		r := image.Record{Message: m, Version: versions[m.RecordType()]}
		switch m.(type) {
		case *logrec.RegisterBrokerRecord:
			r.Version = 4
		case *logrec.PartitionRecord, *logrec.BrokerRegistrationChangeRecord:
			r.Version = 2
		case *logrec.RegisterControllerRecord:
			r.Version = 0
		}
		out = append(out, r)
	}
	return out
}

// shellSnapshot writes a snapshot of metadata.version 4.3 with everyKind in it, and returns its path.
func shellSnapshot(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	_, err := quorum.Format(quorum.FormatOptions{FS: vfs.OS(), ClusterID: "abc", NodeID: 1, MetadataDir: dir, Dirs: []string{dir}, Dynamic: true,
		Features: []quorum.FeatureLevel{{Name: "metadata.version", Level: 30}, {Name: "group.version", Level: 1}}, Extra: everyKind(),
		Now: time.Date(2026, 1, 2, 3, 4, 5, 670_000_000, time.UTC), Rand: rand.New(rand.NewPCG(1, 2))})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "__cluster_metadata-0", "00000000000000000000-0000000000.checkpoint")
}

// shellLines are command lines for any metadata.
var shellLines = []string{
	"ls", "ls /", "ls /image /local", "ls /nope /image/topics", "ls /image/provenance", "ls /image/*", "ls image/topics/../cluster/{brokers,controllers}",
	"tree /image", "tree /image/cluster /image/features", "tree /nope", "tree /image/provenance", "tree",
	"cat /image", "cat /image/provenance /image/features/metadataVersion", "cat /image/features/finalized_nope", "cat /nope", "cat /image/cluster/brokers/*", "cat",
	"cat /image/features/finalized_*", "cat /image/producerIds/nextProducerId/x", "cat /image/topics/byName/*/[0-9]", "cat /image/{a", "cat /image/feature?/metadata*",
	"find /image/features", "find /image/configs/", "find /image/cluster /nope", "find /image/topics/byName", "nope", "ca /image/provenance", "cd /", "pwd", "help", "ls ''",
}

func TestShellBesideKafka(t *testing.T) { shellBesideKafka(t, shellSnapshot(t)) }

// shellBesideKafka gives the same commands on the same file to Kafka's shell and to ours.
func shellBesideKafka(t *testing.T, file string) {
	t.Helper()
	k := startKafkaShell(t, file)
	for _, line := range shellLines {
		words := strings.Fields(line)
		k.sameAs(nil, words, append([]string{"metadata-shell", "--snapshot", file}, words...))
	}
}

func TestShellTree(t *testing.T) {
	snapshot := shellSnapshot(t)
	out, errs, code := run(t, "", "metadata-shell", "-s", snapshot, "tree", "/image")
	if code != 0 || errs != "" {
		t.Fatalf("%d %s", code, errs)
	}
	want, err := os.ReadFile("testdata/shell-tree.txt")
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(string(want), out); diff != "" {
		t.Errorf("%s", diff)
		if os.Getenv("MOLDAU_WRITE") != "" {
			_ = os.WriteFile("testdata/shell-tree.txt", []byte(out), 0o600)
		}
	}
}

func TestShellSession(t *testing.T) {
	session := "cd image/topics\npwd\nls\n\ncd byName/orders/name\ncd 'by*'\npwd\ncat orders/name\nhistory 2\nman cat\nman nope\nhelp\nfind nope\nexit\nls\n"
	out, errs, code := run(t, session, "metadata-shell", "--directory", filepath.Dir(shellSnapshot(t)))
	want := "Loading...\nStarting...\n[ Kafka Metadata Shell ]\n/image/topics\nbyId\nbyName\ncd: byName/orders/name: not a directory.\n/image/topics/byName\norders\n" +
		"    6  cat orders/name\n    7  history 2\ncat: Show the contents of files.\n\nusage: cat targets [targets ...]\n\npositional arguments:\n" +
		"  targets                The files.\nman: unknown command nope. Type help to get a list of commands.\nWelcome to the metadata shell.\n\n" +
		"usage: {cat,cd,exit,find,help,history,ls,man,pwd,tree} ...\n#find: nope: no such file or directory.\n"
	if code != 0 || errs != "" || !matches(out, want) {
		t.Errorf("code %d, %q\n%s", code, errs, out)
	}
}

func TestShellColumns(t *testing.T) {
	for _, c := range []struct {
		width int
		want  string
	}{{0, "a\nbb\nccc\ndddd\neeeee\n"}, {10, "a\nbb\nccc\ndddd\neeeee\n"}, {14, "a    dddd\nbb   eeeee\nccc  \n"}, {20, "a   ccc   eeeee\nbb  dddd  \n"}, {80, "a  bb  ccc  dddd  eeeee\n"}} {
		sh := &shell{width: c.width}
		var text strings.Builder
		sh.out = bufferedWriter(&text)
		sh.list("", []string{"a", "bb", "ccc", "dddd", "eeeee"})
		sh.out.Flush()
		if text.String() != c.want {
			t.Errorf("%d: %q", c.width, text.String())
		}
	}
}

func TestShellWords(t *testing.T) {
	for line, want := range map[string][]string{"": nil, "a  b": {"a", "b"}, `'a b' "c d" e\ f ''`: {"a b", "c d", "e f", ""}, `"a\"b" 'c`: {`a"b`, "c"}} {
		if diff := cmp.Diff(want, shellWords(line)); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	}
}

// TestDamagedFiles gives torn and changed files to the tools that read them: each says which file and where.
func TestDamagedFiles(t *testing.T) {
	whole, err := os.ReadFile(shellSnapshot(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	header := record.Batch(whole).SizeBytes()
	second := record.Batch(whole[header:]).SizeBytes()
	rnd := rand.New(rand.NewPCG(seed.Of(t), 0))
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flipped := append([]byte{}, whole...)
	flipped[header+70+rnd.IntN(second-70)] ^= 0x10
	for _, c := range []struct {
		name string
		b    []byte
		err  string
		code int
	}{
		{"00000000000000000000-0000000001.checkpoint", flipped, fmt.Sprintf("is damaged at position %d: ", header), 1},
		{"00000000000000000000-0000000002.checkpoint", whole[:header+second/2], fmt.Sprintf("is damaged at position %d: ", header), 1},
		{"00000000000000000000-0000000003.checkpoint", whole[:header+second], "has no footer: it was not finished", 0},
		{"00000000000000000000.log", whole[:header+second/2], fmt.Sprintf("ends inside a batch, at position %d; what is before it is shown", header), 0},
		{"00000000000000000001.log", flipped, fmt.Sprintf("is damaged at position %d: ", header), 1},
		{"00000000000000000002.log", nil, "", 0},
	} {
		path := write(c.name, c.b)
		_, errs, code := run(t, "", "metadata-shell", "-s", path, "tree", "/")
		if code != c.code || !strings.Contains(errs, c.err) || c.err != "" && !strings.Contains(errs, path) {
			t.Errorf("%s: code %d, %q", c.name, code, errs)
		}
	}
	// Any change to any byte ends in a message or goes unnoticed, and never in a panic.
	for range 300 {
		b := append([]byte{}, whole...)
		for range 1 + rnd.IntN(3) {
			b[rnd.IntN(len(b))] = byte(rnd.Uint32())
		}
		if rnd.IntN(3) == 0 {
			b = b[:rnd.IntN(len(b))]
		}
		if rnd.IntN(2) == 0 { // damage below an intact checksum
			for rest := b; len(rest) > 0; {
				batch, next, err := record.Next(rest)
				if err != nil {
					break
				}
				batch.SetCRC()
				rest = next
			}
		}
		path := write("00000000000000000000-0000000009.checkpoint", b)
		if _, errs, code := run(t, "", "metadata-shell", "-s", path, "tree", "/"); code != 0 && !strings.Contains(errs, path) {
			t.Fatalf("shell: code %d, %q", code, errs)
		}
		if out, errs, code := run(t, "", "dump-log", "--cluster-metadata-decoder", "--files", path); code != 0 && !strings.Contains(out+errs, path) {
			t.Fatalf("dump-log: code %d, %q", code, errs)
		}
	}
}

func bufferedWriter(w *strings.Builder) *bufio.Writer { return bufio.NewWriter(w) }
