package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func writeProperties(t *testing.T, file string, lines ...string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestStorageBesideKafka gives the same command lines to Kafka's storage tool and to ours.
func TestStorageBesideKafka(t *testing.T) {
	k := startKafkaTools(t, "server-4.4.0")
	dir := t.TempDir()
	base := []string{"node.id=1", "listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093", "controller.listener.names=CONTROLLER"}
	config := func(name string, more ...string) string {
		return writeProperties(t, filepath.Join(dir, name+".properties"), append(more, base...)...)
	}
	dynamic := config("dynamic", "process.roles=broker,controller", "controller.quorum.bootstrap.servers=localhost:9093", "log.dirs="+dir+"/none")
	static := config("static", "process.roles=broker,controller", "controller.quorum.voters=1@localhost:9093", "log.dirs="+dir+"/none")
	for _, line := range []string{
		"", "nope", "info", "info --nope x", "info -c", "random-uuid x", "version-mapping", "version-mapping -r 4.0", "version-mapping -r 3.9-IV0",
		"version-mapping --release-version=4.1.1", "version-mapping -r 4.5", "version-mapping -r 4.5-IV0", "version-mapping -r x", "version-mapping -r 4",
		"version-mapping -r 3.3", "version-mapping -r 3.2", "feature-dependencies", "feature-dependencies -f group.version=1 -f metadata.version=33 -f share.version=2",
		"feature-dependencies -f eligible.leader.replicas.version=1 -f nope=1", "feature-dependencies -f metadata.version=99", "feature-dependencies -f group.version=9",
		"feature-dependencies -f group.version", "feature-dependencies -f group.version=x", "feature-dependencies -f kraft.version=1 -f streams.version=1 -f transaction.version=2",
		"format -c DYN", "format -c DYN -t", "format -c DYN -t abc", "format -c DYN -t abc -s -N", "format -c DYN -t abc -N -I x", "format -c DYN -t abc extra",
		"format -c DYN -t abc -s -f group.version=7", "format -c DYN -t abc -s -f group.version", "format -c DYN -t abc -s -f group.version=y",
		"format -c DYN -t abc -s -f nope=1 -f also=2", "format -c DYN -t abc -s -r 9.9", "format -c DYN -t abc -s -f metadata.version=99",
		"format -c DYN -t abc -s -f metadata.version=34", "format -c DYN -t abc -s -f metadata.version=20 -r 4.0", "format -c DYN -t abc -s -f kraft.version=0",
		"format -c DYN -t abc -s -f kraft.version=2", "format -c DYN -t abc -s -r 3.9 -f eligible.leader.replicas.version=1",
		"format -c STAT -t abc -s", "format -c STAT -t abc -I 1@localhost:1:AAAAAAAAAAAAAAAAAAAAAQ", "format -c STAT -t abc -f kraft.version=1",
		"format -c DYN -t abc -I x", "format -c DYN -t abc -I @x", "format -c DYN -t abc -I y@x", "format -c DYN -t abc -I 1@", "format -c DYN -t abc -I 1@x",
		"format -c DYN -t abc -I 1@[x", "format -c DYN -t abc -I 1@[x]y", "format -c DYN -t abc -I 1@x:1", "format -c DYN -t abc -I 1@x:y:z", "format -c DYN -t abc -I 1@x:70000:z",
		"format -c DYN -t abc -I 1@x:1:z", "format -c DYN -t abc -I ,", "format -c DYN -t abc -I 1@x:1:AAAAAAAAAAAAAAAAAAAAAQ,1@x:2:AAAAAAAAAAAAAAAAAAAAAQ",
		"format -c DYN -t abc -s -S x", "format -c DYN -t abc -s -S SCRAM-MD5=[]", "format -c DYN -t abc -s -S SCRAM-SHA-256=name", "format -c DYN -t abc -s -S SCRAM-SHA-256=[name",
		"format -c DYN -t abc -s -S SCRAM-SHA-256=[name]", "format -c DYN -t abc -s -S SCRAM-SHA-256=[password=x]", "format -c DYN -t abc -s -S SCRAM-SHA-256=[name=a]",
		"format -c DYN -t abc -s -S SCRAM-SHA-256=[name=a,password=x,iterations=1]", "format -c DYN -t abc -s -S SCRAM-SHA-512=[name=a,password=x,iterations=16385]",
		"format -c DYN -t abc -s -S SCRAM-SHA-256=[name=a,password=x,iterations=y]", "format -c DYN -t abc -s -S SCRAM-SHA-256=[name=a,saltedpassword=YCE=]",
		"format -c DYN -t abc -s -S SCRAM-SHA-256=[name=a,salt=*,password=x]", "format -c DYN -t abc -s -S SCRAM-SHA-256=[name=a,password=x,more=1,also=2]",
		"format -c DYN -t abc -s -r 3.4 -S SCRAM-SHA-256=[name=a,password=x]",
		"info -c DYN",
	} {
		line = strings.NewReplacer("DYN", dynamic, "STAT", static).Replace("storage " + line)
		k.same(nil, strings.Fields(line)...)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "none")); len(entries) > 0 {
		t.Errorf("a command that failed has written %v", entries)
	}
}

// random stands for what is drawn or the time: directory ids and timestamps.
var random = regexp.MustCompile(`directory\.id=[\w-]{22}|(CreateTime|LastContainedLogTimestamp"|lastContainedLogTimestamp"):? ?\d+|crc: \d+|"voterDirectoryId":"[\w-]{22}"|(?m:^#\w{3} .*$)`)

// TestFormattedDirectoriesBesideKafka compares what is in the directories that the two format.
func TestFormattedDirectoriesBesideKafka(t *testing.T) {
	k := startKafkaTools(t, "server-4.4.0")
	dump := startKafkaTools(t, "tools-4.3.1")
	const uuid = "SWVX05qgTd2KwJ8ThLrvQA"
	scram := []string{"-S", `SCRAM-SHA-256=[name=alice,salt="N3E=",password=alice-secret]`, "-S", "SCRAM-SHA-512=[name=bob,salt=N3E,iterations=8192,saltedpassword=YCE=]"}
	for i, c := range []struct {
		roles, voters string
		args          []string
	}{
		{"broker,controller", "1@localhost:9093", nil},
		{"broker,controller", "1@localhost:9093", append([]string{"-r", "3.9"}, scram...)},
		{"broker,controller", "1@localhost:9093", []string{"-r", "4.3", "-f", "share.version=0", "-f", "group.version=0"}},
		{"broker,controller", "", append([]string{"--standalone", "-r", "4.0"}, scram...)},
		{"controller", "", []string{"--no-initial-controllers"}},
		{"controller", "", []string{"-I", "2@[::1]:7:AAAAAAAAAAAAAAAAAAAAZQ,1@localhost:9093:" + uuid}},
		{"controller", "", []string{"-I", "2@host2:7:AAAAAAAAAAAAAAAAAAAAZQ"}},
		{"broker", "", nil},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			var files, printed [2]string
			home := t.TempDir()
			for side := range 2 {
				dir := filepath.Join(home, "d")
				k.undo = func() { _ = os.RemoveAll(dir) }
				lines := []string{"process.roles=" + c.roles, "node.id=1", "controller.listener.names=CONTROLLER", "log.dirs=" + dir + "/b," + dir + "/a," + dir + "/cc"}
				switch {
				case c.voters != "":
					lines = append(lines, "controller.quorum.voters="+c.voters)
				default:
					lines = append(lines, "controller.quorum.bootstrap.servers=localhost:9093")
				}
				switch c.roles {
				case "broker":
					lines = append(lines, "listeners=PLAINTEXT://localhost:9092", "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT")
				case "controller":
					lines = append(lines, "listeners=CONTROLLER://localhost:9093")
				default:
					lines = append(lines, "listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093")
				}
				config := writeProperties(t, filepath.Join(home, "c.properties"), lines...)
				args := append([]string{"storage", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", config}, c.args...)
				var out, errs string
				var code int
				if side == 0 {
					out, errs, code = k.run(args...)
				} else {
					out, errs, code = run(t, "", args...)
				}
				if code != 0 {
					t.Fatalf("side %d: code %d: %s%s", side, code, out, errs)
				}
				again, errs, code := run(t, "", "storage", "info", "-c", config)
				if code != 0 {
					t.Fatalf("side %d: info: %s%s", side, again, errs)
				}
				printed[side] = random.ReplaceAllString(out+again, "RANDOM")
				files[side] = directoryText(t, dump, dir)
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(printed[0], printed[1]); diff != "" {
				t.Errorf("output (-kafka +moldau):\n%s", diff)
			}
			if diff := cmp.Diff(files[0], files[1]); diff != "" {
				t.Errorf("files (-kafka +moldau):\n%s", diff)
			}
		})
	}
}

// TestOurNodeOnKafkasFormat starts our node on directories that Kafka's tool has formatted.
func TestOurNodeOnKafkasFormat(t *testing.T) {
	k := startKafkaTools(t, "server-4.4.0")
	for _, args := range [][]string{nil, {"--standalone", "-r", "3.9"}, {"--standalone", "-S", "SCRAM-SHA-512=[name=bob,password=x]"}} {
		dir := t.TempDir()
		k.undo = func() { _, _ = os.RemoveAll(dir+"/a"), os.RemoveAll(dir+"/b") }
		controller := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		quorum := "controller.quorum.bootstrap.servers=" + controller
		if args == nil {
			quorum = "controller.quorum.voters=1@" + controller
		}
		config := writeProperties(t, filepath.Join(dir, "c.properties"), "process.roles=broker,controller", "node.id=1", "controller.listener.names=CONTROLLER", quorum,
			"listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://"+controller, "log.dirs="+dir+"/b,"+dir+"/a", "offsets.topic.replication.factor=1")
		if out, errs, code := k.run(append([]string{"storage", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", config}, args...)...); code != 0 {
			t.Fatal(out, errs)
		}
		n := runNode(t, config)
		out, errs, code := run(t, "", "cluster", "cluster-id", "-C", controller)
		if code != 0 || out != "Cluster ID: MkU3OEVBNTcwNTJENDM2Qg\n" {
			t.Errorf("%v: %s%s", args, out, errs)
		}
		if _, errs, code := run(t, "", "topics", "--bootstrap-server", n.Addr(), "--create", "--topic", "t"); code != 0 {
			t.Errorf("%v: %s", args, errs)
		}
	}
}

// directoryText is every file of a tree, snapshots as Kafka's dump-log shows them.
func directoryText(t *testing.T, dump *kafkaTools, root string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(&out, strings.TrimPrefix(path, root))
		switch {
		case d.IsDir():
		case strings.HasSuffix(path, ".checkpoint"):
			text, errs, code := dump.run("dump-log", "--cluster-metadata-decoder", "--files", path)
			if code != 0 || strings.Contains(text+errs, "isvalid: false") {
				t.Errorf("dump-log of %s: %s%s", path, text, errs)
			}
			out.WriteString(random.ReplaceAllString(text, "RANDOM"))
		default:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			lines := strings.Split(random.ReplaceAllString(string(b), "RANDOM"), "\n")
			slices.Sort(lines) // Java stores properties as its hash table has them
			out.WriteString(strings.Join(lines, "\n") + "\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}
