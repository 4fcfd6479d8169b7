package pair

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// ClassPath returns Apache Kafka's jars, or why there are none. It is asked in a directory of the project.
func ClassPath() (classPath, why string) {
	if _, err := exec.LookPath("javac"); err != nil {
		return "", "no javac on this machine"
	}
	oracle, err := beside("shared/oracle/kafka")
	if err != nil {
		return "", err.Error()
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

// beside is a path beside the project's root.
func beside(path string) (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			return filepath.Join(filepath.Dir(dir), path), nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("not in the project")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// Kafka is a Java process that answers each line with lines and a dot.
type Kafka struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	err string // the file that has what it says on stderr
}

// Start compiles Judge.java into dir and starts its class, of that full name.
func Start(dir, classPath string, source []byte, class string) (*Kafka, error) {
	file := filepath.Join(dir, "Judge.java")
	if err := os.WriteFile(file, source, 0o644); err != nil {
		return nil, err
	}
	if out, err := exec.Command("javac", "-nowarn", "-cp", classPath, "-d", dir, file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("javac: %w\n%s", err, out)
	}
	k := &Kafka{cmd: exec.Command("java", "-Xmx300m", "-XX:+UseSerialGC", "-Dorg.apache.logging.log4j.level=OFF", "-cp", dir+":"+classPath, class)}
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

// Ask sends a line and returns the answer's.
func (k *Kafka) Ask(line string) (lines []string, err error) {
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

// Stop ends the process.
func (k *Kafka) Stop() error {
	k.in.Close()
	return k.cmd.Wait()
}
