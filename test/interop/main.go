package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// client is one foreign client: how it is run and what it knows.
type client struct {
	name       string
	command    []string
	env        []string
	codecs     []string
	idempotent bool
	// mortal: ends by design when its only broker goes away (kcat: "All broker connections are down: terminating").
	mortal bool
	// transactional: its program knows the verb transact.
	transactional bool
}

const records = 10000

var allCodecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

func clients(home, here string) []client {
	python := filepath.Join(home, "venv/bin/python")
	java := func(v string) []string { return javaClient(home, v, "JavaClient") }
	at := func(name string) string { return filepath.Join(here, "clients", name) }
	return []client{
		{"kcat", []string{at("kcat.sh")}, nil, allCodecs, true, true, false},
		{"kafka-python", []string{python, at("kafka_python.py")}, nil, allCodecs, true, false, true},
		{"confluent-kafka", []string{python, at("confluent.py")}, nil, allCodecs, true, false, true},
		{"kafkajs", []string{"node", at("kafkajs.js")}, []string{"NODE_PATH=" + home + "/node_modules"}, []string{"none", "gzip"}, true, false, true},
		{"franz-go", []string{filepath.Join(home, "franz")}, nil, allCodecs, true, false, true},
		{"sarama", []string{filepath.Join(home, "sarama")}, nil, allCodecs, true, false, true},
		{"java 2.1.1", java("2.1.1"), nil, allCodecs, true, false, true},
		{"java 4.4.0", java("4.4.0"), nil, allCodecs, true, false, true},
		{"console tools", []string{at("console.sh")}, []string{"KAFKA=" + at("tool.sh")}, allCodecs, true, false, false},
	}
}

// javaClient is the command of a class that was compiled for a release of kafka-clients.
func javaClient(home, release, class string) []string {
	return []string{"java", "-Xmx256M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", home + "/classes-" + release + ":" + home + "/java-" + release + "/*", class}
}

func main() {
	only := flag.String("only", "", "run only clients whose name contains this")
	stage := flag.String("stage", "", "run only this stage: basic, kill, proxy, tools, compaction, txn, copier, groups")
	flag.Parse()
	here, _ := os.Getwd()
	home := os.Getenv("INTEROP_HOME")
	if home == "" {
		home = filepath.Join(os.Getenv("HOME"), ".cache/moldau-interop")
	}
	t := &table{}
	ctx := context.Background()
	want := func(s string) bool { return *stage == "" || *stage == s }
	var chosen []client
	for _, c := range clients(home, here) {
		if strings.Contains(c.name, *only) {
			chosen = append(chosen, c)
		}
	}
	start := time.Now()
	if want("basic") {
		stageBasic(ctx, t, here, chosen)
	}
	if want("kill") {
		stageKill(ctx, t, here, chosen)
	}
	if want("proxy") {
		stageProxy(ctx, t, here, chosen)
	}
	if want("tools") {
		stageTools(ctx, t, here, home)
	}
	if want("txn") {
		stageTransactions(ctx, t, here, chosen)
		if *only == "" {
			stageTransactionTools(ctx, t, here)
		}
	}
	if want("copier") && *only == "" {
		stageCopier(ctx, t, here)
	}
	if want("groups") && *only == "" {
		stageGroups(ctx, t, here, home)
	}
	if want("compaction") {
		stageCompaction(ctx, t, here)
	}
	t.print(time.Since(start))
	if t.failed > 0 {
		os.Exit(1)
	}
}

// wrong is an error about records: what the node's directory says then is worth keeping.
type wrong struct{ error }

func wrongf(format string, args ...any) error { return wrong{fmt.Errorf(format, args...)} }

// table collects one line per client and stage.
type table struct {
	mu             sync.Mutex
	rows, failures []string
	passed, failed int
}

// row does what f does, and notes how that ended.
func (t *table) row(stage, name string, n *node, f func() error) {
	began := time.Now()
	err := f()
	var w wrong
	if errors.As(err, &w) {
		err = fmt.Errorf("%w (%s)", err, n.keep())
	}
	t.add(stage, name, began, err)
}

func (t *table) add(stage, name string, began time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	took := time.Since(began).Round(100 * time.Millisecond)
	line := fmt.Sprintf("| %-8s | %-20s | %-4s | %6v |", stage, name, "ok", took)
	if err != nil {
		t.failed++
		line = fmt.Sprintf("| %-8s | %-20s | %-4s | %6v | %v", stage, name, "FAIL", took, err)
		t.failures = append(t.failures, line)
	} else {
		t.passed++
	}
	fmt.Println(line)
	t.rows = append(t.rows, line)
}

func (t *table) print(took time.Duration) {
	fmt.Printf("\ninterop, %v:\n%s\n%d passed, %d failed\n", took.Round(time.Second), strings.Join(t.rows, "\n"), t.passed, t.failed)
	for _, line := range t.failures { // last, where whoever sees the end of a long log sees them
		fmt.Println(line)
	}
}
