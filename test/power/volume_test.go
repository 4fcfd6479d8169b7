package power

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/moldau-io/moldau/internal/base/netx"
)

// EXT4_IOC_SHUTDOWN is _IOR('X', 125, __u32); 2 is EXT4_GOING_FLAGS_NOLOGFLUSH.
const (
	ext4Shutdown   = 0x8004587d
	withoutJournal = 2
)

// volume is an ext4 file system in a file.
type volume struct {
	t     *testing.T
	image string
	dir   string
	up    bool
}

func run(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// wanted skips what takes minutes and root unless it was asked for.
func wanted(t *testing.T) {
	if !*enabled {
		t.Skip("runs with -power, by make power")
	}
}

// newVolume makes and mounts one, or skips the test where that cannot be.
func newVolume(t *testing.T, megabytes int64) *volume {
	wanted(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a file system")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs ", tool)
		}
	}
	root := t.TempDir()
	v := &volume{t: t, image: filepath.Join(root, "image"), dir: filepath.Join(root, "disk")}
	if err := errors.Join(os.WriteFile(v.image, nil, 0o600), os.Truncate(v.image, megabytes<<20), os.Mkdir(v.dir, 0o755), run("mkfs.ext4", "-q", "-F", v.image)); err != nil {
		t.Fatal(err)
	}
	if err := v.mount(); err != nil {
		t.Skip("needs loop devices: ", err)
	}
	t.Cleanup(func() {
		if v.up {
			if err := v.unmount(); err != nil {
				t.Error(err)
			}
		}
	})
	return v
}

func (v *volume) mount() error {
	err := run("mount", "-o", "loop", v.image, v.dir)
	v.up = err == nil
	return err
}

func (v *volume) unmount() error {
	err := run("umount", v.dir)
	for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); err = run("umount", v.dir) {
	}
	if err == nil {
		v.up = false
	}
	return err
}

// powerOff stops the file system where it is: nothing reaches the disk any more.
func (v *volume) powerOff() error {
	f, err := os.Open(v.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := uint32(withoutJournal)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return fmt.Errorf("EXT4_IOC_SHUTDOWN: %w", errno)
	}
	return nil
}

// nodeProcess is a node whose data is on a volume.
type nodeProcess struct {
	t       *testing.T
	binary  string
	root    string // its configuration and log, on another disk
	data    string
	addr    string
	props   []string
	cmd     *exec.Cmd
	done    chan error
	wrapper []string // a command that runs the node, such as strace
}

func build(t *testing.T) string {
	binary := filepath.Join(t.TempDir(), "moldau")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/moldau")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

func newNode(t *testing.T, binary, data string, props ...string) *nodeProcess {
	port, err := netx.FreePair(rand.New(rand.NewPCG(rand.Uint64(), 1)), 101)
	if err != nil {
		t.Fatal(err)
	}
	n := &nodeProcess{t: t, binary: binary, root: t.TempDir(), data: data, addr: fmt.Sprintf("localhost:%d", port)}
	n.props = append([]string{
		"process.roles=broker,controller", "node.id=1", "log.dirs=" + data,
		"listeners=PLAINTEXT://" + n.addr + fmt.Sprintf(",CONTROLLER://localhost:%d", port+101),
		"advertised.listeners=PLAINTEXT://" + n.addr, "controller.listener.names=CONTROLLER",
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		fmt.Sprintf("controller.quorum.voters=1@localhost:%d", port+101),
		"offsets.topic.replication.factor=1", "offsets.topic.num.partitions=1", "auto.create.topics.enable=false",
	}, props...)
	if err := os.WriteFile(n.file(), []byte(strings.Join(n.props, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(binary, "storage", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", n.file()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.kill)
	return n
}

func (n *nodeProcess) file() string { return filepath.Join(n.root, "server.properties") }
func (n *nodeProcess) log() string {
	b, _ := os.ReadFile(filepath.Join(n.root, "node.log"))
	return string(b)
}

// start returns when the node is ready.
func (n *nodeProcess) start() error {
	log, err := os.Create(filepath.Join(n.root, "node.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	args := append(append([]string{}, n.wrapper...), n.binary, "start", n.file(), "--metrics", "none")
	n.cmd = exec.Command(args[0], args[1:]...)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan error) { done <- cmd.Wait() }(n.cmd, n.done)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		select {
		case err := <-n.done:
			n.cmd = nil
			return fmt.Errorf("the node ended while starting: %v\n%s", err, n.log())
		case <-tick.C:
			if strings.Contains(n.log(), "Kafka Server started") {
				return nil
			}
		}
	}
	return errors.New("the node is not ready after a minute\n" + n.log())
}

// alive reports whether the process runs.
func (n *nodeProcess) alive() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case err := <-n.done:
		n.done <- err
		return false
	default:
		return true
	}
}

// kill ends the process, and what wraps it, at once.
func (n *nodeProcess) kill() {
	if n.cmd == nil {
		return
	}
	syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL)
	<-n.done
	n.cmd = nil
}

// free is what a volume has left for anybody.
func free(dir string) (int64, error) {
	var s unix.Statfs_t
	err := unix.Statfs(dir, &s)
	return int64(s.Bavail) * int64(s.Bsize), err
}

// randomBytes cannot be compressed.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}
