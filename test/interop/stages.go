package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// node is one Moldau in a process of its own, started and stopped by ./node.
type node struct {
	here, dir string
	port      int
	props     []string
}

func (n *node) addr() string { return fmt.Sprintf("localhost:%d", n.port) }

func (n *node) start() error {
	file := filepath.Join(n.dir, "extra.properties")
	if err := os.WriteFile(file, []byte(strings.Join(n.props, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	out, err := exec.Command(filepath.Join(n.here, "node"), "start", "--port", fmt.Sprint(n.port), "--dir", n.dir, "--props", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("starting the node: %w: %s", err, out)
	}
	return nil
}

func (n *node) stop(kill bool) {
	args := []string{"stop", "--dir", n.dir}
	if kill {
		args = append(args, "--kill")
	}
	_ = exec.Command(filepath.Join(n.here, "node"), args...).Run()
}

// keep copies the node's directory, as it is now, for whoever looks into what went wrong.
func (n *node) keep() string {
	dir, err := os.MkdirTemp("", "moldau-interop-wrong")
	if err != nil {
		return err.Error()
	}
	if out, err := exec.Command("cp", "-a", n.dir, dir).CombinedOutput(); err != nil {
		return fmt.Sprintf("%s is incomplete: %s", dir, out)
	}
	return "the node's directory and log: " + dir
}

// newNode starts a node on free ports in a directory of its own; the caller stops it and removes the directory.
func newNode(here string, props ...string) (*node, error) {
	dir, err := os.MkdirTemp("", "moldau-interop")
	if err != nil {
		return nil, err
	}
	n := &node{here: here, dir: dir, port: freePair(), props: append([]string{"num.partitions=3", "group.initial.rebalance.delay.ms=0"}, props...)}
	return n, n.start()
}

// freePair finds a port whose controller neighbour (port+101) is free too, below the range of outgoing connections.
func freePair() int {
	for {
		port := 15000 + rand.IntN(16000)
		if free(port) && free(port+101) {
			return port
		}
	}
}

func free(port int) bool {
	ln, err := net.Listen("tcp", fmt.Sprintf("localhost:%d", port))
	return err == nil && ln.Close() == nil
}

func topicOf(stage, name string) string {
	return stage + "-" + strings.NewReplacer(" ", "-", ".", "-").Replace(name)
}

// stageBasic: each client creates a topic by producing to it, 10,000 records over every codec it has, reads half in a group,
// and a second process of it resumes with the rest.
func stageBasic(ctx context.Context, t *table, here string, cs []client) {
	n, err := newNode(here)
	if err != nil {
		t.add("basic", "node", time.Now(), err)
		return
	}
	defer os.RemoveAll(n.dir)
	defer n.stop(false)
	for _, c := range cs {
		t.row("basic", c.name, n, func() error { return basic(ctx, n, c) })
	}
}

func basic(ctx context.Context, n *node, c client) error {
	topic, group := topicOf("basic", c.name), topicOf("group", c.name)
	each := records / len(c.codecs)
	for i, codec := range c.codecs {
		if err := c.produce(ctx, n.addr(), topic, i*each, each, codec, c.idempotent && i%2 == 0); err != nil {
			return fmt.Errorf("codec %s: %w", codec, err)
		}
	}
	total := each * len(c.codecs)
	first, err := c.consume(ctx, n.addr(), topic, group, total/2)
	if err != nil {
		return err
	}
	second, err := c.consume(ctx, n.addr(), topic, group, total-total/2)
	if err != nil {
		return fmt.Errorf("resuming: %w", err)
	}
	return check(append(first, second...), total, true)
}

// stageKill: each client's idempotent producer is at work when the node is killed and started again on the same directory.
func stageKill(ctx context.Context, t *table, here string, cs []client) {
	n, err := newNode(here)
	if err != nil {
		t.add("kill -9", "node", time.Now(), err)
		return
	}
	defer os.RemoveAll(n.dir)
	defer n.stop(false)
	for _, c := range cs {
		if c.mortal {
			continue
		}
		t.row("kill -9", c.name, n, func() error { return kill(ctx, n, c) })
	}
}

func kill(ctx context.Context, n *node, c client) error {
	topic := topicOf("kill", c.name)
	if err := c.produce(ctx, n.addr(), topic, 0, 1000, "none", false); err != nil {
		return err
	}
	done := make(chan error, 1)
	const count = 60000
	go func() { done <- c.produce(ctx, n.addr(), topic, 1000, count, "none", c.idempotent) }()
	if err := waitFor(ctx, n, topic, 3000); err != nil {
		return err
	}
	n.stop(true)
	if err := n.start(); err != nil {
		return err
	}
	if err := <-done; err != nil {
		return err
	}
	n.stop(true) // and everything is there after another one
	if err := n.start(); err != nil {
		return err
	}
	got, err := c.consume(ctx, n.addr(), topic, topicOf("killgroup", c.name), 1000+count)
	if err != nil {
		return err
	}
	return check(got, 1000+count, c.idempotent)
}

// stageProxy: idempotent producers behind a proxy that drops one produce answer in ten and repeats one request in ten.
func stageProxy(ctx context.Context, t *table, here string, cs []client) {
	port := freePair()
	n, err := newNode(here, fmt.Sprintf("advertised.listeners=PLAINTEXT://localhost:%d", port))
	if err != nil {
		t.add("proxy", "node", time.Now(), err)
		return
	}
	defer os.RemoveAll(n.dir)
	defer n.stop(false)
	p, err := newProxy(fmt.Sprintf("localhost:%d", port), n.addr())
	if err != nil {
		t.add("proxy", "proxy", time.Now(), err)
		return
	}
	defer p.close()
	for _, c := range cs {
		t.row("proxy", c.name, n, func() error { return throughProxy(ctx, n, p, c) })
	}
	fmt.Printf("proxy: %d produce answers dropped, %d requests repeated, %d repeats answered with another offset\n", p.dropped.Load(), p.repeated.Load(), p.differing.Load())
	if p.differing.Load() > 0 || p.dropped.Load() == 0 || p.repeated.Load() == 0 {
		t.add("proxy", "same offsets", time.Now(), fmt.Errorf("%d differing of %d repeats", p.differing.Load(), p.repeated.Load()))
	}
}

func throughProxy(ctx context.Context, n *node, p *proxy, c client) error {
	topic := topicOf("proxy", c.name)
	const count = 20000
	if err := c.produce(ctx, p.addr(), topic, 0, count, "none", c.idempotent); err != nil {
		return err
	}
	got, err := c.consume(ctx, p.addr(), topic, topicOf("proxygroup", c.name), count)
	if err != nil {
		return err
	}
	return check(got, count, c.idempotent)
}
