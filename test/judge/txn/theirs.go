package txn

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed java/Judge.java
var javaSource []byte

const oracle = "../../../../shared/oracle/kafka"

// findJars returns Apache Kafka's jars as a class path, or why there are none.
func findJars() (classPath, why string) {
	if _, err := exec.LookPath("javac"); err != nil {
		return "", "no javac on this machine"
	}
	if _, err := os.Stat(oracle); err != nil {
		return "", "no Apache Kafka beside the project: " + oracle
	}
	if out, err := exec.Command(oracle, "tools").CombinedOutput(); err != nil { // installs it, once
		return "", fmt.Sprintf("Apache Kafka cannot be installed: %v\n%s", err, out)
	}
	home := os.Getenv("ORACLE_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "", err.Error()
		}
		home = filepath.Join(user, ".cache/moldau-oracle")
	}
	return home + "/server-4.4.0/*", ""
}

// theirs is Kafka's coordinator in a Java process.
type theirs struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	err string // the file that has what it says on stderr
}

// startKafka compiles the Java source into dir and starts it.
func startKafka(dir, classPath string) (*theirs, error) {
	file := filepath.Join(dir, "Judge.java")
	if err := os.WriteFile(file, javaSource, 0o644); err != nil {
		return nil, err
	}
	if out, err := exec.Command("javac", "-nowarn", "-cp", classPath, "-d", dir, file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("javac: %w\n%s", err, out)
	}
	k := &theirs{cmd: exec.Command("java", "-Xmx300m", "-XX:+UseSerialGC", "-Dorg.apache.logging.log4j.level=OFF", "-cp", dir+":"+classPath, "kafka.coordinator.transaction.Judge")}
	k.err = filepath.Join(dir, "stderr")
	errors, err := os.Create(k.err)
	if err != nil {
		return nil, err
	}
	defer errors.Close()
	k.cmd.Stderr = errors
	if k.in, err = k.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := k.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	k.out = bufio.NewScanner(out)
	k.out.Buffer(nil, 1<<22)
	return k, k.cmd.Start()
}

func (k *theirs) do(line string, _ request) (lines []string, err error) {
	if _, err := fmt.Fprintln(k.in, line); err != nil {
		return nil, err
	}
	for k.out.Scan() {
		if k.out.Text() == "." {
			return lines, nil
		}
		lines = append(lines, k.out.Text())
	}
	said, _ := os.ReadFile(k.err)
	return nil, fmt.Errorf("the Java process ended at %q: %v\n%s", line, k.out.Err(), said[max(0, len(said)-2000):])
}

func (k *theirs) stop() error {
	k.in.Close()
	return k.cmd.Wait()
}
