// Command run starts a node, drives it with every generator of test/checker, kills it and its clients, and judges what they saw.
//
//	run -for 3m                  in rounds of one minute, each on a new directory
//	run -judge HISTORY           judges a history again
//
// The binary is ./moldau or what MOLDAU names. After a bad round its directory and history stay, and the exit code is 1.
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
	pace := flag.Duration("pace", 4*time.Millisecond, "between two operations of one generator")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *total, *round, *pace, *seed, *judge, *quiet); err != nil {
		fmt.Fprintln(os.Stderr, "checker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, total, round, pace time.Duration, seed uint64, judge string, quiet bool) error {
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
	bad, rounds, ops, kills := 0, 0, 0, 0
	for end := time.Now().Add(total); time.Now().Before(end) && ctx.Err() == nil; rounds++ {
		fmt.Printf("round %d, seed %d\n", rounds+1, seed)
		r, err := one(ctx, binary, min(round, time.Until(end)), pace, seed, quiet)
		if err != nil {
			return err
		}
		if verdict(r, quiet) != nil {
			bad++
		}
		ops += r.Figures.Ops
		kills += len(r.Figures.Unavailable)
		seed++
	}
	fmt.Printf("%d rounds, %d operations, %d kills of the node, %d bad rounds\n", rounds, ops, kills, bad)
	if bad > 0 {
		return fmt.Errorf("%d of %d rounds were bad", bad, rounds)
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
	o := checker.Options{Generators: checker.All, For: length, Pace: pace, TxnTimeout: 4 * time.Second, Grace: 40 * time.Second, AdminLag: adminLag, Limit: 400000,
		KillNode: 10 * time.Second, KillClients: 7 * time.Second, Pause: 13 * time.Second, Down: time.Second, Drop: 10, Repeat: 10}
	if !quiet {
		o.Say = func(format string, args ...any) { fmt.Printf("  "+format+"\n", args...) }
	}
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
