package node

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/netx"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// options are those of a node on free ports with its files in dir.
func options(t *testing.T, dir string, change map[string]string) Options {
	t.Helper()
	p := conf.DevDefaults()
	p["listeners"] = "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"
	p["advertised.listeners"] = p["listeners"]
	p["log.dirs"] = dir
	for k, v := range change {
		p[k] = v
	}
	b, _, err := conf.Load(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Options{Config: b, AutoFormat: true}
}

func start(t *testing.T, o Options) (*Node, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	n, err := Start(ctx, o)
	if n != nil {
		t.Cleanup(func() {
			if err := n.Shutdown(context.Background()); err != nil {
				t.Errorf("shutdown: %v", err)
			}
		})
	}
	return n, err
}

// mustFail starts a node that must not start, and wants the reason in one line.
func mustFail(t *testing.T, o Options, want string) {
	t.Helper()
	_, err := start(t, o)
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("start: %v, want one line with %q", err, want)
	}
}

// formatOnce leaves a formatted directory behind.
func formatOnce(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	n, err := Start(t.Context(), options(t, dir, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestUnformattedDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	o := options(t, dir, nil)
	o.AutoFormat = false
	mustFail(t, o, "No `meta.properties` found in "+dir+" (have you run `kafka-storage.sh` to format the directory?)")
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("the refused directory now holds %v", left)
	}
}

func TestForeignDirectoriesAreRefused(t *testing.T) {
	dir := formatOnce(t)
	mustFail(t, options(t, dir, map[string]string{"node.id": "2", "controller.quorum.voters": "2@localhost:9093"}), "Stored node id 1 doesn't match previous node id 2")
	other := formatOnce(t)
	mustFail(t, options(t, dir+","+other, nil), "Invalid cluster.id in: ")
	if err := os.WriteFile(filepath.Join(dir, "meta.properties"), []byte("version=nonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mustFail(t, options(t, dir, nil), "meta.properties")
}

func TestDirectoryThatIsNoneIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	mustFail(t, options(t, file, nil), file)
}

func TestNoDirectoryThatWorksIsRefused(t *testing.T) {
	o := options(t, "/a,/b", nil)
	mem := vfs.NewMem()
	o.FS = mem
	n, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	faults := vfs.NewFaults(mem)
	faults.Add(vfs.Rule{Op: vfs.OpLock, Err: syscall.EROFS})
	o.FS = faults
	mustFail(t, o, "no log directory works: ")
}

func TestSecondNodeOnADirectoryIsRefused(t *testing.T) {
	dir := formatOnce(t)
	if _, err := start(t, options(t, dir, nil)); err != nil {
		t.Fatal(err)
	}
	mustFail(t, options(t, dir, nil), ".lock")
}

// TestSecondNodeOnAMetadataDirectoryIsRefused: the lock of a log directory does not cover a metadata directory elsewhere.
func TestSecondNodeOnAMetadataDirectoryIsRefused(t *testing.T) {
	root := t.TempDir()
	meta := filepath.Join(root, "meta")
	first, err := start(t, options(t, filepath.Join(root, "a"), map[string]string{"metadata.log.dir": meta}))
	if err != nil {
		t.Fatal(err)
	}
	second := options(t, filepath.Join(root, "b"), map[string]string{"metadata.log.dir": meta})
	mustFail(t, second, "Failed to acquire lock on file .lock in "+meta)
	if err := first.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, second); err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
}

// TestBrokenDiskEndsTheNode: a full disk is waited out, but a disk that fails under the metadata log ends the node, with the reason.
func TestBrokenDiskEndsTheNode(t *testing.T) {
	o := options(t, "/data", map[string]string{"metadata.max.idle.interval.ms": "10"})
	faults := vfs.NewFaults(vfs.NewMem())
	o.FS = faults
	n, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	faults.Add(vfs.Rule{Op: vfs.OpWrite, Path: "*.log", Err: syscall.EIO})
	select {
	case <-n.Failed():
	case <-time.After(10 * time.Second):
		t.Fatal("the node goes on over a broken disk")
	}
	if n.Err() == nil || !strings.Contains(n.Err().Error(), "metadata quorum: ") || !errors.Is(n.Err(), syscall.EIO) {
		t.Errorf("failed with %v", n.Err())
	}
	n.Kill()
}

func TestTakenPortIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := "PLAINTEXT://" + l.Addr().String() + ",CONTROLLER://127.0.0.1:0"
	mustFail(t, options(t, t.TempDir(), map[string]string{"listeners": taken, "advertised.listeners": taken}), "address already in use")
	l.Close()
	// The failed start has let go of everything: the same directory and port serve now.
	dir := t.TempDir()
	o := options(t, dir, map[string]string{"listeners": taken, "advertised.listeners": taken})
	n, err := start(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if want := l.Addr().String(); n.Addr() != want {
		t.Errorf("serves %s, want %s", n.Addr(), want)
	}
}

func TestWhatIsNotSupportedIsRefused(t *testing.T) {
	for want, change := range map[string]map[string]string{
		"only a quorum of one": {"controller.quorum.voters": "1@localhost:9093,2@localhost:9094"},
		"separate roles":       {"process.roles": "controller", "listeners": "CONTROLLER://127.0.0.1:0", "advertised.listeners": "CONTROLLER://127.0.0.1:0"},
		"PLAINTEXT":            {"listeners": "SSL://127.0.0.1:0,CONTROLLER://127.0.0.1:0", "advertised.listeners": "SSL://127.0.0.1:0", "inter.broker.listener.name": "SSL"},
	} {
		p := conf.DevDefaults()
		for k, v := range change {
			p[k] = v
		}
		p["log.dirs"] = t.TempDir()
		b, _, err := conf.Load(p, nil)
		if err != nil {
			t.Logf("%s: the configuration refuses it already: %v", want, err)
			continue
		}
		mustFail(t, Options{Config: b, AutoFormat: true}, want)
	}
}

func TestCancelledStartLetsGo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := options(t, "/data", nil)
	o.FS = vfs.NewMem()
	if _, err := Start(ctx, o); err == nil {
		t.Fatal("started although nobody waits")
	}
	if _, err := start(t, o); err != nil {
		t.Fatalf("the next start on the same files: %v", err)
	}
}

func TestAdvertisedPortIsTheOneGiven(t *testing.T) {
	o := options(t, "/data", nil)
	o.FS = vfs.NewMem()
	n, err := start(t, o)
	if err != nil {
		t.Fatal(err)
	}
	b := n.replicas.Image().Cluster.Broker(n.nodeID)
	e, ok := b.Endpoint("PLAINTEXT")
	if !ok || int(e.Port) != netx.Port(n.listeners.all()[0].l.Addr()) || e.Port == 0 || e.Host != "127.0.0.1" {
		t.Errorf("registered as %+v, listens at %v", b.Endpoints, n.listeners.all()[0].l.Addr())
	}
}

// TestPanicOfThePublisherEndsTheNode: the rooms would not show what is committed from then on, so the node stops, with the reason.
func TestPanicOfThePublisherEndsTheNode(t *testing.T) {
	o := options(t, "/data", nil)
	o.FS = vfs.NewMem()
	n, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	n.publish.queue <- published{} // a delta that is none: the first step falls over it
	select {
	case <-n.Failed():
	case <-time.After(10 * time.Second):
		t.Fatal("the node goes on")
	}
	if n.Err() == nil || !strings.Contains(n.Err().Error(), "publish metadata: panic: ") {
		t.Errorf("failed with %v", n.Err())
	}
	n.Kill()
}

// TestControllerOverTCP: the broker registers, and its requests travel, through the controller's port.
func TestControllerOverTCP(t *testing.T) {
	o := options(t, "/data", nil)
	o.FS, o.ControllerOverTCP = vfs.NewMem(), true
	n, err := start(t, o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.dialController(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, tcp := c.(*net.TCPConn); !tcp {
		t.Errorf("the line to the controller is a %T", c)
	}
}
