package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// run starts a client's verb and returns its standard output; the error holds the end of what it complained.
func (c client) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 150*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.command[0], append(append([]string(nil), c.command[1:]...), args...)...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.WaitDelay = time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		text := strings.TrimSpace(complaint.String())
		return out.String(), fmt.Errorf("%s %s: %w: %s", c.name, args[0], err, text[max(0, len(text)-400):])
	}
	return out.String(), nil
}

func (c client) produce(ctx context.Context, addr, topic string, from, count int, codec string, idempotent bool) error {
	args := []string{"produce", addr, topic, strconv.Itoa(from), strconv.Itoa(count), codec}
	if idempotent {
		args = append(args, "idempotent")
	}
	out, err := c.run(ctx, args...)
	if err == nil && !strings.Contains(out, fmt.Sprint("acked ", count)) {
		err = fmt.Errorf("%s says %q, want %d acked", c.name, out, count)
	}
	return err
}

func (c client) consume(ctx context.Context, addr, topic, group string, count int) ([]int, error) {
	out, err := c.run(ctx, "consume", addr, topic, group, strconv.Itoa(count))
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, wrong{err} // it waits for records that are not there
	}
	if err != nil {
		return nil, err
	}
	var got []int
	for _, line := range strings.Fields(out) {
		n, err := strconv.Atoi(line)
		if err != nil {
			return nil, fmt.Errorf("%s printed %q", c.name, line)
		}
		got = append(got, n)
	}
	return got, nil
}

// check compares what was read with 0..n-1: each at least once, exactly once if once, and in order within a key.
func check(got []int, n int, once bool) error {
	seen := make([]int, n)
	last := map[int]int{}
	for _, i := range got {
		if i < 0 || i >= n {
			return wrongf("record %d was never produced", i)
		}
		seen[i]++
		if before, ok := last[i%97]; ok && i < before && once {
			return wrongf("key k%d: record %d comes after %d", i%97, i, before)
		}
		last[i%97] = max(last[i%97], i)
	}
	lost, doubled := 0, 0
	for i, count := range seen {
		if count == 0 {
			if lost == 0 {
				fmt.Fprintln(os.Stderr, "first record lost:", i)
			}
			lost++
		}
		doubled += max(0, count-1)
	}
	if lost > 0 || once && doubled > 0 {
		return wrongf("%d records lost, %d doubled", lost, doubled)
	}
	return nil
}
