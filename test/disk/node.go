package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moldau-io/moldau/internal/base/netx"
)

// clusterID is what all directories here are formatted with.
const clusterID = "MkU3OEVBNTcwNTJENDM2Qg"

// oracle knows where Apache Kafka is.
type oracle struct {
	script string // runs Kafka's tools
	home   string // the jars
}

// findOracle returns why Apache Kafka cannot be run here, if it cannot.
func findOracle() (*oracle, string) {
	if _, err := exec.LookPath("java"); err != nil {
		return nil, "no java on this machine"
	}
	script, err := filepath.Abs("../../../shared/oracle/kafka")
	if err != nil {
		return nil, err.Error()
	}
	if _, err := os.Stat(script); err != nil {
		return nil, "no Apache Kafka beside the project: " + script
	}
	if out, err := exec.Command(script, "tools").CombinedOutput(); err != nil { // installs it, once
		return nil, fmt.Sprintf("Apache Kafka cannot be installed: %v\n%s", err, out)
	}
	home := os.Getenv("ORACLE_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return nil, err.Error()
		}
		home = filepath.Join(user, ".cache/moldau-oracle")
	}
	return &oracle{script, home}, ""
}

// java is a command that runs a class of the server's jars with a small heap and little compiling: these processes live for
// seconds.
func (o *oracle) java(heap, log4j, class string, args ...string) *exec.Cmd {
	all := []string{heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true",
		"-Dlog4j2.configurationFile=" + filepath.Join(filepath.Dir(o.script), log4j), "-cp", o.home + "/server-4.4.0/*", class}
	return exec.Command("java", append(all, args...)...)
}

// tool runs one of Kafka's tools and returns what it printed.
func (o *oracle) tool(args ...string) (string, error) {
	out, err := exec.Command(o.script, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kafka %s: %w\n%s", args[0], err, tail(string(out)))
	}
	return string(out), nil
}

// product is one of the two programs that open the directory.
type product string

const (
	kafka  product = "kafka"
	moldau product = "moldau"
)

// place is a directory with the configuration of the node that lives in it.
type place struct {
	dir, addr string
	port      int
	saslPort  int      // see withSASL
	props     []string // beside the common ones
	logDirs   []string // below dir; the first has the metadata log
	dynamic   bool     // the quorum's voters are in the log, not in the configuration
	oracle    *oracle
	moldau    string // the binary

	proc    *exec.Cmd
	done    chan error
	running product
	killed  bool
	starts  int
}

func newPlace(dir string, o *oracle, binary string, rnd *rand.Rand, dynamic bool, props ...string) (*place, error) {
	port, err := netx.FreePair(rnd, 101)
	if err != nil {
		return nil, err
	}
	sasl := port
	for sasl == port || sasl == port+101 {
		if sasl, err = netx.FreePair(rnd, 101); err != nil {
			return nil, err
		}
	}
	return &place{dir: dir, port: port, saslPort: sasl, addr: fmt.Sprintf("localhost:%d", port), props: props, logDirs: []string{"data"},
		dynamic: dynamic, oracle: o, moldau: binary}, nil
}

// dirs are the log directories, data the first; metadata is the metadata log's.
func (p *place) dirs() []string {
	var out []string
	for _, d := range p.logDirs {
		out = append(out, filepath.Join(p.dir, d))
	}
	return out
}
func (p *place) data() string     { return p.dirs()[0] }
func (p *place) metadata() string { return filepath.Join(p.data(), "__cluster_metadata-0") }

// configure writes the server.properties that both products start with; extra lines are for one of them.
func (p *place) configure(extra ...string) (string, error) {
	controller := fmt.Sprintf("localhost:%d", p.port+101)
	lines := []string{
		"process.roles=broker,controller", "node.id=1",
		"listeners=PLAINTEXT://" + p.addr + ",CONTROLLER://" + controller,
		"advertised.listeners=PLAINTEXT://" + p.addr + ",CONTROLLER://" + controller,
		"controller.listener.names=CONTROLLER",
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs=" + strings.Join(p.dirs(), ","),
		"offsets.topic.replication.factor=1", "offsets.topic.num.partitions=4",
		"transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1", "transaction.state.log.num.partitions=4",
		"share.coordinator.state.topic.replication.factor=1", "share.coordinator.state.topic.min.isr=1",
		"group.initial.rebalance.delay.ms=0", "broker.heartbeat.interval.ms=500", "broker.session.timeout.ms=5000",
		"log.cleaner.backoff.ms=200", "auto.create.topics.enable=false",
	}
	if p.dynamic {
		lines = append(lines, "controller.quorum.bootstrap.servers="+controller)
	} else {
		lines = append(lines, "controller.quorum.voters=1@"+controller)
	}
	lines = append(append(lines, p.props...), extra...)
	file := filepath.Join(p.dir, "server.properties")
	return file, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// format lets Kafka's own tool format the directory.
func (p *place) format(release string, extra ...string) error {
	file, err := p.configure(extra...)
	if err != nil {
		return err
	}
	args := []string{"format", "-t", clusterID, "-c", file}
	if release != "" {
		args = append(args, "--release-version", release)
	}
	if p.dynamic {
		args = append(args, "--standalone")
	}
	out, err := p.oracle.java("-Xmx128M", "log4j2-tools.properties", "kafka.tools.StorageTool", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("format: %w\n%s", err, out)
	}
	return nil
}

// startTimeout is generous: a Java process on a machine that does other things too.
const startTimeout = 90 * time.Second

// command makes the process of a product, its configuration written.
func (p *place) command(who product, extra ...string) (*exec.Cmd, error) {
	file, err := p.configure(extra...)
	if err != nil {
		return nil, err
	}
	if who == kafka {
		return p.oracle.java("-Xmx400M", "log4j2-server.properties", "kafka.Kafka", file), nil
	}
	return exec.Command(p.moldau, "start", file, "--metrics", "none"), nil
}

// start opens the directory with a product and returns when it is ready.
func (p *place) start(who product, extra ...string) error {
	cmd, err := p.command(who, extra...)
	if err != nil {
		return err
	}
	p.starts++
	log, err := os.Create(p.logFile(who))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	p.proc, p.done, p.running, p.killed = cmd, make(chan error, 1), who, false
	go func(done chan error) { done <- cmd.Wait() }(p.done)
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-p.done:
			p.proc = nil
			return fmt.Errorf("%s ended while starting: %v\n%s", who, err, p.logTail())
		case <-deadline.C:
			return errors.Join(fmt.Errorf("%s is not ready after %v\n%s", who, startTimeout, p.logTail()), p.kill())
		case <-tick.C:
			if b, err := os.ReadFile(log.Name()); err == nil && bytes.Contains(b, []byte("Kafka Server started")) {
				return nil
			}
		}
	}
}

// logFile is where the current start's output goes.
func (p *place) logFile(who product) string {
	return filepath.Join(p.dir, fmt.Sprintf("%02d-%s.log", p.starts, who))
}

func (p *place) logTail() string {
	b, err := os.ReadFile(p.logFile(p.running))
	if err != nil {
		return err.Error()
	}
	return tail(string(b))
}

func tail(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}

// gone takes note of a process that has ended by itself.
func (p *place) gone() error {
	<-p.done
	p.proc = nil
	return nil
}

// stop ends the process cleanly, kill by SIGKILL. Both return when it is gone.
func (p *place) stop() error { return p.end(syscall.SIGTERM) }
func (p *place) kill() error { return p.end(syscall.SIGKILL) }

func (p *place) end(sig syscall.Signal) error {
	if p.proc == nil {
		return nil
	}
	p.killed = sig == syscall.SIGKILL
	if err := p.proc.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	select {
	case err := <-p.done:
		p.proc = nil
		// Java answers SIGTERM with 143 however well it ended.
		if exit := (*exec.ExitError)(nil); sig == syscall.SIGTERM && p.running == moldau && errors.As(err, &exit) {
			return fmt.Errorf("%s: %w\n%s", p.running, err, p.logTail())
		}
		return nil
	case <-ctx.Done():
		_ = p.proc.Process.Kill()
		<-p.done
		p.proc = nil
		return fmt.Errorf("%s does not end\n%s", p.running, p.logTail())
	}
}
