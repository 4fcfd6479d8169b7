package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// kafkaTools is a Java process that runs command lines of Apache Kafka's own tools.
type kafkaTools struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

// oracleHome is where a release of Apache Kafka lies; the test is skipped without it.
func oracleHome(t *testing.T) string {
	t.Helper()
	home := os.Getenv("ORACLE_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			t.Skip(err)
		}
		home = filepath.Join(user, ".cache", "moldau-oracle")
	}
	if _, err := os.Stat(filepath.Join(home, "tools-4.3.1")); err != nil || testing.Short() {
		t.Skip("Apache Kafka is not here, or -short")
	}
	if _, err := exec.LookPath("java"); err != nil {
		t.Skip("no Java here")
	}
	return home
}

// startKafkaTools starts the process with the jars of one release: "server-4.4.0" has the storage tool, "tools-4.3.1" the others.
func startKafkaTools(t *testing.T, release string) *kafkaTools {
	t.Helper()
	jars := filepath.Join(oracleHome(t), release, "*")
	cmd := exec.Command("java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=OFF", "-cp", jars, "testdata/Tools.java")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() }) // a tool of theirs may wait for ever
	t.Cleanup(func() {
		watchdog.Stop()
		in.Close()
		_ = cmd.Process.Kill() // its client threads would keep it
		_ = cmd.Wait()
	})
	return &kafkaTools{t, in, bufio.NewReader(out)}
}

// run returns what one command line prints and its exit code.
func (k *kafkaTools) run(args ...string) (out, errs string, code int) {
	k.t.Helper()
	if _, err := fmt.Fprintln(k.in, strings.Join(args, "\t")); err != nil {
		k.t.Fatal(err)
	}
	head, err := k.out.ReadString('\n')
	if err != nil {
		k.t.Fatalf("%v: Kafka's tools have ended: %v", args, err)
	}
	var n, m int
	if _, err := fmt.Sscan(head, &code, &n, &m); err != nil {
		k.t.Fatalf("%v: %q: %v", args, head, err)
	}
	b := make([]byte, n+m)
	if _, err := io.ReadFull(k.out, b); err != nil {
		k.t.Fatal(err)
	}
	return string(b[:n]), string(b[n:]), code
}

// same compares a command line of ours with Kafka's. Stack traces, warnings of the log and the guesses after a misspelled flag
// are not compared.
func (k *kafkaTools) same(edit func(string) string, args ...string) {
	k.t.Helper()
	wantOut, wantErr, wantCode := k.run(args...)
	out, errs, code := run(k.t, "", args...)
	if edit == nil {
		edit = func(s string) string { return s }
	}
	if diff := cmp.Diff(edit(wantOut), edit(out)); diff != "" || code != wantCode {
		k.t.Errorf("%v: code %d, want %d; standard output (-kafka +moldau):\n%s", args, code, wantCode, diff)
	}
	if diff := cmp.Diff(edit(plainError(wantErr)), edit(plainError(errs))); diff != "" {
		k.t.Errorf("%v: standard error (-kafka +moldau):\n%s", args, diff)
	}
}

func plainError(text string) string {
	text, _, _ = strings.Cut(text, "\nDid you mean:")
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "\tat "), strings.HasPrefix(line, "\t... "), strings.HasPrefix(line, "Caused by: "):
		case strings.HasPrefix(line, "[20"), strings.HasPrefix(line, "org.apache.kafka."), strings.HasPrefix(line, "java."), line == "":
		default:
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}
