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
	t       *testing.T
	jars    string
	program []string
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	undo    func() // takes away what a command has written that did not come to its end
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
	k := &kafkaTools{t: t, jars: filepath.Join(oracleHome(t), release, "*"), program: []string{"testdata/Tools.java"}}
	k.start()
	t.Cleanup(k.stop)
	return k
}

// startKafkaShell starts the commands of Kafka's metadata shell over a file.
func startKafkaShell(t *testing.T, file string) *kafkaTools {
	t.Helper()
	k := &kafkaTools{t: t, jars: filepath.Join(oracleHome(t), "tools-4.3.1", "*"), program: []string{"testdata/Shell.java", file}}
	k.start()
	t.Cleanup(k.stop)
	return k
}

func (k *kafkaTools) start() {
	k.t.Helper()
	k.cmd = exec.Command("java", append([]string{"-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=OFF", "-cp", k.jars}, k.program...)...)
	in, err := k.cmd.StdinPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	out, err := k.cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.in, k.out = in, bufio.NewReader(out)
}

func (k *kafkaTools) stop() {
	k.in.Close()
	_ = k.cmd.Process.Kill() // its client threads would keep it
	_ = k.cmd.Wait()
}

// run returns what one command line prints and its exit code. A process that does not answer is started afresh, after undo. On a starved
// machine Java takes half a minute to start and to run a first command.
func (k *kafkaTools) run(args ...string) (out, errs string, code int) {
	k.t.Helper()
	for range 3 {
		watchdog := time.AfterFunc(time.Minute, func() { _ = k.cmd.Process.Kill() })
		out, errs, code, err := k.try(args)
		watchdog.Stop()
		if err == nil {
			return out, errs, code
		}
		k.t.Logf("%v: Kafka's tools have ended: %v", args, err)
		k.stop()
		if k.undo != nil {
			k.undo()
		}
		k.start()
	}
	k.t.Fatalf("%v: no answer", args)
	return "", "", 0
}

func (k *kafkaTools) try(args []string) (out, errs string, code int, err error) {
	if _, err := fmt.Fprintln(k.in, strings.Join(args, "\t")); err != nil {
		return "", "", 0, err
	}
	head, err := k.out.ReadString('\n')
	if err != nil {
		return "", "", 0, err
	}
	var n, m int
	if _, err := fmt.Sscan(head, &code, &n, &m); err != nil {
		return "", "", 0, fmt.Errorf("%q: %w", head, err)
	}
	b := make([]byte, n+m)
	_, err = io.ReadFull(k.out, b)
	return string(b[:n]), string(b[n:]), code, err
}

// same compares a command line of ours with Kafka's. Stack traces, warnings of the log and the guesses after a misspelled flag
// are not compared.
func (k *kafkaTools) same(edit func(string) string, args ...string) {
	k.t.Helper()
	k.sameAs(edit, args, args)
}

// sameAs is same for a command line that is not written alike on both sides. It returns Kafka's exit code.
func (k *kafkaTools) sameAs(edit func(string) string, theirs, args []string) int {
	k.t.Helper()
	wantOut, wantErr, wantCode := k.run(theirs...)
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
	return wantCode
}

func plainError(text string) string {
	text, _, _ = strings.Cut(text, "\nDid you mean:")
	text, _, _ = strings.Cut(text, "\nOption  ") // the help that follows
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
