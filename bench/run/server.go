package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-io/moldau/bench/load"
	"github.com/moldau-io/moldau/internal/base/netx"
)

const oracle = "../shared/oracle/kafka"

func haveKafka() bool {
	_, err := os.Stat(oracle)
	_, java := exec.LookPath("java")
	return err == nil && java == nil
}

// server is one server process under test.
type server struct {
	who, dir, addr string
	pid            int
	ready          time.Duration // from exec to the first answered Metadata request
	proc           *exec.Cmd     // when it is our own child
}

// newServer starts a server. Lines of properties go behind those that all have.
func newServer(who string, properties ...string) (*server, error) {
	touch()
	dir, err := os.MkdirTemp("", "moldau-bench")
	if err != nil {
		return nil, err
	}
	port, err := netx.FreePair(rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(time.Now().UnixNano()))), 101)
	if err != nil {
		return nil, err
	}
	s := &server{who: who, dir: dir, addr: fmt.Sprintf("localhost:%d", port)}
	switch who {
	case "kafka":
		more := filepath.Join(dir, "more.properties")
		if err := os.WriteFile(more, []byte(strings.Join(properties, "\n")+"\n"), 0o644); err != nil {
			return nil, err
		}
		began := time.Now()
		if out, err := exec.Command(oracle, "start", "--port", strconv.Itoa(port), "--dir", dir, "--props", more).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
		s.ready = time.Since(began) // formatting included: a second JVM; the row's note says so
		s.pid = readPid(filepath.Join(dir, "node1/pid"))
	case "skeleton":
		if err := s.spawn("go", "build", "-o", filepath.Join(dir, "skeleton"), "./bench/skeleton"); err != nil {
			return nil, err
		}
		cmd := exec.Command(filepath.Join(dir, "skeleton"), "-listen", s.addr, "-file", filepath.Join(dir, "log"))
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		_, _ = bufio.NewReader(out).ReadString('\n')
		s.proc, s.pid = cmd, cmd.Process.Pid
	default:
		return s, s.startMoldau(port, properties)
	}
	return s, nil
}

// startMoldau formats first, as an operator does, then measures from exec to the first answer.
func (s *server) startMoldau(port int, properties []string) error {
	props := filepath.Join(s.dir, "server.properties")
	text := fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:%d
listeners=PLAINTEXT://localhost:%d,CONTROLLER://localhost:%d
advertised.listeners=PLAINTEXT://localhost:%d
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=%s/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
`, port+101, port, port+101, port, s.dir) + strings.Join(properties, "\n") + "\n"
	if err := os.WriteFile(props, []byte(text), 0o644); err != nil {
		return err
	}
	if err := s.spawn(*built, "storage", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", props); err != nil {
		return err
	}
	began := time.Now()
	if err := s.exec(); err != nil {
		return err
	}
	if err := firstMetadata(s.addr, began.Add(30*time.Second)); err != nil {
		return err
	}
	s.ready = time.Since(began)
	return nil
}

// exec starts Moldau on its directory.
func (s *server) exec() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "server.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(*built, "start", filepath.Join(s.dir, "server.properties"), "--metrics", "none")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.proc, s.pid = cmd, cmd.Process.Pid
	return nil
}

// firstMetadata asks until the node answers with itself as a broker.
func firstMetadata(addr string, deadline time.Time) error {
	req := kmsg.NewPtrMetadataRequest()
	req.SetVersion(9)
	req.Topics = []kmsg.MetadataRequestTopic{} // none
	frame := load.Frame(req)
	for time.Now().Before(deadline) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_, _ = c.Write(frame)
			b := make([]byte, 4096)
			n, err := c.Read(b)
			c.Close()
			resp := kmsg.NewPtrMetadataResponse()
			resp.SetVersion(9)
			if err == nil && n > 9 && resp.ReadFrom(b[9:n]) == nil && len(resp.Brokers) == 1 {
				return nil
			}
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("no Metadata answer from %s", addr)
}

func (s *server) spawn(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

func (s *server) stop() {
	if s.who == "kafka" {
		_ = exec.Command(oracle, "stop", "--dir", s.dir).Run()
	} else if s.proc != nil {
		_ = s.proc.Process.Signal(syscall.SIGTERM)
		done := make(chan struct{})
		go func() { _ = s.proc.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = s.proc.Process.Kill()
		}
	}
	_ = os.RemoveAll(s.dir)
}

// warmUp is how long the load runs before it is measured: the JVM compiles, the others fill their pools.
func (s *server) warmUp() time.Duration {
	if s.who == "kafka" {
		return *warm
	}
	return 2 * time.Second
}

// rss is resident memory in MB.
func (s *server) rss() float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

// meter samples the server's CPU, to the microsecond, and the machine's, to a hundredth of a second.
type meter struct {
	s                  *server
	began              time.Time
	server, self, busy float64
}

func (s *server) meter() *meter {
	return &meter{s, time.Now(), processCPU(s.pid), processCPU(os.Getpid()), machineCPU()}
}

// stop returns the server's CPU seconds and the share of the machine that others used.
func (m *meter) stop() (cpu, foreign float64) {
	cpu = processCPU(m.s.pid) - m.server
	self := processCPU(os.Getpid()) - m.self
	wall := time.Since(m.began).Seconds()
	return cpu, max(0, (machineCPU()-m.busy-cpu-self)/wall)
}

// machineCPU is user, nice and system seconds of all; softirq is the load's own and not counted.
func machineCPU() float64 {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	sum := 0.0
	for _, f := range fields[1:4] {
		v, _ := strconv.ParseFloat(f, 64)
		sum += v
	}
	return sum / 100
}

func createTopics(ctx context.Context, addr string, partitions int, topics ...string) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if _, err := kadm.NewClient(c).CreateTopics(ctx, int32(partitions), 1, nil, topics...); err != nil {
		return err
	}
	for {
		m, err := kadm.NewClient(c).Metadata(ctx, topics...)
		if err == nil && ready(m, partitions) {
			time.Sleep(time.Second) // Kafka's metadata names a leader before the broker is one
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("no leaders for %v: %w", topics, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func ready(m kadm.Metadata, partitions int) bool {
	for _, t := range m.Topics {
		if t.Err != nil || len(t.Partitions) != partitions {
			return false
		}
		for _, p := range t.Partitions {
			if p.Err != nil || p.Leader < 0 {
				return false
			}
		}
	}
	return true
}

func readPid(path string) int {
	b, _ := os.ReadFile(path)
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}
