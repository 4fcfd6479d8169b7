package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-io/moldau/bench/load"
)

// caller sends one request after the other over one connection, with no retries and no metadata of its own.
type caller struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialCaller(addr string) (*caller, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &caller{conn, bufio.NewReaderSize(conn, 256<<10)}, nil
}

func (c *caller) close() { _ = c.conn.Close() }

// call decodes the answer to req, whose version is set, into resp.
func (c *caller) call(req kmsg.Request, resp kmsg.Response) error {
	resp.SetVersion(req.GetVersion())
	if err := c.conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	if _, err := c.conn.Write(load.Frame(req)); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(c.in, size[:]); err != nil {
		return err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.in, body); err != nil {
		return err
	}
	head := 4
	if resp.IsFlexible() {
		head = 5
	}
	if len(body) < head {
		return fmt.Errorf("answer of %d bytes", len(body))
	}
	return resp.ReadFrom(body[head:])
}

// end ends the server and leaves its directory.
func (s *server) end(kill bool) {
	sig := syscall.SIGTERM
	if kill {
		sig = syscall.SIGKILL
	}
	if s.who == "kafka" {
		args := []string{"stop", "--dir", s.dir}
		if kill {
			args = append(args, "--kill")
		}
		_ = exec.Command(oracle, args...).Run()
		return
	}
	_ = s.proc.Process.Signal(sig)
	_ = s.proc.Wait()
	s.proc = nil
}

// again starts an ended server on its directory. It returns how long after the exec of the server's process the first Metadata
// request was answered, and how long until all partitions were led and answered.
func (s *server) again(names []string, partitions int) (answered, led time.Duration, err error) {
	began := time.Now()
	failed := make(chan error, 1)
	if s.who == "kafka" {
		_, port, _ := net.SplitHostPort(s.addr)
		go func() {
			out, err := exec.Command(oracle, "start", "--port", port, "--dir", s.dir).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			failed <- err
		}()
	} else if err := s.exec(); err != nil {
		return 0, 0, err
	}
	if err := firstMetadata(s.addr, began.Add(2*time.Minute)); err != nil {
		return 0, 0, err
	}
	first := time.Now()
	c, err := dialCaller(s.addr)
	if err != nil {
		return 0, 0, err
	}
	defer c.close()
	if err := c.untilLed(names, partitions, began.Add(3*time.Minute)); err != nil {
		return 0, 0, err
	}
	all := time.Now()
	if s.who == "kafka" { // its script formats with another JVM first
		if err := <-failed; err != nil {
			return 0, 0, err
		}
		s.pid = readPid(filepath.Join(s.dir, "node1/pid"))
		if began, err = execTime(s.pid); err != nil {
			return 0, 0, err
		}
	}
	return first.Sub(began), all.Sub(began), nil
}

// execTime is when a process was started, to a hundredth of a second.
func execTime(pid int) (time.Time, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return time.Time{}, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	seconds, err := strconv.ParseFloat(strings.Fields(string(up))[0], 64)
	if err != nil {
		return time.Time{}, err
	}
	return now.Add(-time.Duration(seconds*1e9) + time.Duration(ticks)*10*time.Millisecond), nil
}
