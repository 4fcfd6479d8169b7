package checker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/moldau-io/moldau/internal/base/netx"
	"github.com/moldau-io/moldau/internal/record"
)

// readyIn bounds how long a process may take to start or end.
const readyIn = 60 * time.Second

// Process is a node in a process of its own, in a directory of its own.
type Process struct {
	binary, dir, addr string
	proc              *exec.Cmd
	done              chan error
}

// NewProcess formats dir and starts a node there.
func NewProcess(binary, dir string, rnd *rand.Rand) (*Process, error) {
	port, err := netx.FreePair(rnd, 101)
	if err != nil {
		return nil, err
	}
	p := &Process{binary: binary, dir: dir, addr: fmt.Sprintf("127.0.0.1:%d", port)}
	controller := fmt.Sprintf("127.0.0.1:%d", port+101)
	lines := []string{"process.roles=broker,controller", "node.id=1", "controller.quorum.voters=1@" + controller,
		"listeners=PLAINTEXT://" + p.addr + ",CONTROLLER://" + controller, "advertised.listeners=PLAINTEXT://" + p.addr,
		"controller.listener.names=CONTROLLER", "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT", "log.dirs=" + p.data(),
		"offsets.topic.replication.factor=1", "offsets.topic.num.partitions=4", "transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1", "transaction.state.log.num.partitions=4", "group.initial.rebalance.delay.ms=0", "auto.create.topics.enable=false",
		"group.min.session.timeout.ms=500", "transaction.abort.timed.out.transaction.cleanup.interval.ms=500", "log.cleaner.backoff.ms=200",
		"group.consumer.min.heartbeat.interval.ms=100", "group.consumer.heartbeat.interval.ms=200", "group.consumer.min.session.timeout.ms=500",
		"group.consumer.session.timeout.ms=4000", "broker.heartbeat.interval.ms=500", "broker.session.timeout.ms=5000"}
	if err := os.MkdirAll(p.data(), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(p.properties(), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	out, err := exec.Command(binary, "storage", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", p.properties()).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("format: %w\n%s", err, out)
	}
	return p, p.Start()
}

func (p *Process) data() string       { return filepath.Join(p.dir, "data") }
func (p *Process) properties() string { return filepath.Join(p.dir, "server.properties") }
func (p *Process) log() string        { return filepath.Join(p.dir, "server.log") }

// Addr is where clients connect.
func (p *Process) Addr() string { return p.addr }

// Start starts the process and returns when it says that it is ready.
func (p *Process) Start() error {
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	before, err := log.Seek(0, 2)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.binary, "start", p.properties(), "--metrics", "none")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	p.proc, p.done = cmd, make(chan error, 1)
	go func(done chan error) { done <- cmd.Wait() }(p.done)
	deadline := time.After(readyIn)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-p.done:
			p.proc = nil
			return fmt.Errorf("the node ended while starting: %v, see %s", err, p.log())
		case <-deadline:
			return errors.Join(fmt.Errorf("the node is not ready after %v, see %s", readyIn, p.log()), p.Kill())
		case <-tick.C:
			if b, err := os.ReadFile(p.log()); err == nil && int64(len(b)) > before && bytes.Contains(b[before:], []byte("Kafka Server started")) {
				return nil
			}
		}
	}
}

// Kill ends the process by SIGKILL, Stop by SIGTERM. That it had ended by itself is an error.
func (p *Process) Kill() error { return p.end(syscall.SIGKILL) }

// Stop ends the process in good order.
func (p *Process) Stop() error { return p.end(syscall.SIGTERM) }

func (p *Process) end(sig syscall.Signal) error {
	if p.proc == nil {
		return nil
	}
	cmd := p.proc
	p.proc = nil
	select {
	case err := <-p.done:
		return fmt.Errorf("the node ended by itself: %v, see %s", err, p.log())
	default:
	}
	if err := cmd.Process.Signal(sig); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyIn)
	defer cancel()
	select {
	case err := <-p.done:
		if sig == syscall.SIGTERM && err != nil {
			return fmt.Errorf("the node ended badly: %w, see %s", err, p.log())
		}
		return nil
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("the node did not end in %v", readyIn)
	}
}

// Pause stops the process where it is; Resume lets it go on.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) error {
	if p.proc == nil {
		return errors.New("there is no process")
	}
	return p.proc.Process.Signal(sig)
}

// Walk reads the files of all partitions after Stop and records what is damaged.
func (p *Process) Walk(h *History) error {
	dirs, err := filepath.Glob(filepath.Join(p.data(), "*-*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil {
			return err
		}
		slices.Sort(files)
		op := h.Begin(&Op{F: Disk, Key: filepath.Base(dir)})
		last := int64(-1)
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			last, op.Damage = walk(filepath.Base(name), b, last, op.Damage)
		}
		h.End(op, OK, nil)
	}
	return nil
}

// walk checks the batches of one segment: whole, with right checksums, offsets going up from after last.
func walk(name string, b []byte, last int64, damage []string) (int64, []string) {
	size := len(b)
	for len(b) > 0 {
		at := size - len(b)
		batch, rest, err := record.Next(b)
		if err == nil {
			err = batch.CheckCRC()
		}
		if err == nil && int64(batch.BaseOffset()) <= last {
			err = fmt.Errorf("offset %d after %d", batch.BaseOffset(), last)
		}
		if err != nil {
			return last, append(damage, fmt.Sprintf("%s at byte %d of %d: %v", name, at, size, err))
		}
		last, b = int64(batch.LastOffset()), rest
	}
	return last, damage
}
