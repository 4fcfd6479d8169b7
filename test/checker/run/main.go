// Command run starts a node, drives it with every generator of test/checker, kills it and its clients, and judges what they saw.
//
//	run -for 3m                  in rounds of one minute, each on a new directory, from a fresh seed
//	run -for 3m -seed 1          from this one, as make checker does
//	run -bootstrap HOST:PORT     drives a node that is there, in one round and without killing it; it must be empty
//	run -judge HISTORY           judges a history again
//
// The binary is ./moldau or what MOLDAU names. After a bad round its directory and history stay. The exit code is 1 after a bad round,
// and when a verdict had nothing to judge in all rounds together.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/moldau-io/moldau/test/checker"
)

// adminLag is how long a broker may take to see what its controller has acknowledged.
const adminLag = 3 * time.Second

func main() {
	total := flag.Duration("for", 3*time.Minute, "how long to run")
	round := flag.Duration("round", time.Minute, "how long each directory is used")
	seed := flag.Uint64("seed", rand.Uint64(), "of the first round")
	judge := flag.String("judge", "", "judge this history instead")
	quiet := flag.Bool("quiet", false, "one line a round")
	bootstrap := flag.String("bootstrap", "", "an empty node to drive, instead of starting one")
	pace := flag.Duration("pace", 4*time.Millisecond, "between two operations of one generator")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *total, *round, *pace, *seed, *judge, *bootstrap, *quiet); err != nil {
		fmt.Fprintln(os.Stderr, "checker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, total, round, pace time.Duration, seed uint64, judge, bootstrap string, quiet bool) error {
	if judge != "" {
		f, err := os.Open(judge)
		if err != nil {
			return err
		}
		defer f.Close()
		ops, err := checker.Read(f)
		if err != nil {
			return err
		}
		return verdict(checker.Analyse(ops, adminLag), false)
	}
	binary := os.Getenv("MOLDAU")
	if binary == "" {
		binary = "./moldau"
	}
	bad, rounds, ops, txns, kills, judged := 0, 0, 0, 0, 0, map[string]int{}
	for end := time.Now().Add(total); time.Now().Before(end) && ctx.Err() == nil; rounds++ {
		fmt.Printf("round %d, seed %d\n", rounds+1, seed)
		var r *checker.Report
		var err error
		if bootstrap != "" {
			r, err = remote(ctx, bootstrap, total, pace, seed, quiet)
		} else {
			r, err = one(ctx, binary, min(round, time.Until(end)), pace, seed, quiet)
		}
		if err != nil {
			return err
		}
		if verdict(r, quiet) != nil {
			bad++
		}
		ops += r.Figures.Ops
		txns += r.Figures.Txns
		kills += len(r.Figures.Unavailable)
		for rule, n := range r.Judged {
			judged[rule] += n
		}
		seed++
	}
	fmt.Printf("%d rounds, %d operations, %d transactions committed, %d kills of the node, %d bad rounds\n%s\n", rounds, ops, txns, kills, bad, checker.JudgedLine(judged))
	if bad > 0 {
		return fmt.Errorf("%d of %d rounds were bad", bad, rounds)
	}
	if none := checker.Vacuous(judged); len(none) > 0 && ctx.Err() == nil {
		return fmt.Errorf("nothing was judged by %v", none)
	}
	return nil
}

func verdict(r *checker.Report, quiet bool) error {
	if !quiet || !r.Good() {
		fmt.Print(r)
	} else {
		fmt.Printf("%d operations, %d values acknowledged, no anomaly\n", r.Figures.Ops, r.Figures.Acked)
	}
	if !r.Good() {
		return fmt.Errorf("bad: %v", r.Bad())
	}
	return nil
}

// options are those of every run. timeout is that of transactions and sessions.
func options(length, pace, timeout time.Duration, quiet bool) checker.Options {
	o := checker.Options{Generators: checker.All, For: length, Pace: pace, TxnTimeout: timeout, Grace: 40 * time.Second, AdminLag: adminLag, Limit: 400000, Compress: true,
		KillClients: 7 * time.Second, Drop: 10, Repeat: 10}
	if !quiet {
		o.Say = func(format string, args ...any) { fmt.Printf("  "+format+"\n", args...) }
	}
	return o
}

// remote is one round on a node that somebody else started. The timeout is what Apache Kafka allows a session by default.
func remote(ctx context.Context, addr string, length, pace time.Duration, seed uint64, quiet bool) (*checker.Report, error) {
	h, err := checker.Run(ctx, checker.Remote(addr), options(length, pace, 8*time.Second, quiet), seed)
	if err != nil {
		return nil, err
	}
	r := checker.Analyse(h.Ops(), adminLag)
	if r.Good() {
		return r, nil
	}
	f, err := os.CreateTemp("", "moldau-checker-*.jsonl")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fmt.Printf("history: %s\n", f.Name())
	return r, checker.Write(f, h.Ops())
}

// one is a round in a directory of its own, which stays only if the round is bad.
func one(ctx context.Context, binary string, length, pace time.Duration, seed uint64, quiet bool) (*checker.Report, error) {
	dir, err := os.MkdirTemp("", "moldau-checker-")
	if err != nil {
		return nil, err
	}
	node, err := checker.NewProcess(binary, dir, rand.New(rand.NewPCG(seed, 0)))
	if err != nil {
		return nil, err
	}
	defer node.Kill()
	o := options(length, pace, 4*time.Second, quiet)
	o.KillNode, o.Pause, o.Down = 10*time.Second, 13*time.Second, time.Second
	h, err := checker.Run(ctx, node, o, seed)
	if err != nil {
		return nil, err
	}
	if err := node.Stop(); err != nil {
		return nil, err
	}
	if err := node.Walk(h); err != nil {
		return nil, err
	}
	r := checker.Analyse(h.Ops(), adminLag)
	if r.Good() {
		return r, os.RemoveAll(dir)
	}
	name := filepath.Join(dir, "history.jsonl")
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fmt.Printf("history: %s\n", name)
	return r, checker.Write(f, h.Ops())
}
