package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// rdkafka builds librdkafka's rdkafka_performance from the source that Debian's librdkafka-dev ships as an example, and says why
// where it cannot.
func rdkafka() (tool, why string) {
	source := "/usr/share/doc/librdkafka-dev/examples/rdkafka_performance.c"
	dir := filepath.Join(os.TempDir(), "moldau-bench-tools")
	tool = filepath.Join(dir, "rdkafka_performance")
	if _, err := os.Stat(tool); err == nil {
		return tool, ""
	}
	_ = os.MkdirAll(dir, 0o755)
	if err := os.WriteFile(filepath.Join(dir, "rd.h"), []byte(shim), 0o644); err != nil {
		return "", err.Error()
	}
	_ = os.WriteFile(filepath.Join(dir, "rdtime.h"), []byte("#pragma once\n"), 0o644)
	script := fmt.Sprintf(`set -e
if [ -f %[1]s.gz ]; then zcat %[1]s.gz; else cat %[1]s; fi | sed 's|#include "rdkafka.h"|#include <librdkafka/rdkafka.h>|; /src.rd.h"/d' > %[2]s/perf.c
gcc -O2 -w -I%[2]s -o %[3]s %[2]s/perf.c -lrdkafka -lz -lpthread -lrt -lm`, source, dir, tool)
	if out, err := exec.Command("bash", "-c", script).CombinedOutput(); err != nil {
		return "", fmt.Sprintf("no rdkafka_performance (librdkafka-dev and gcc make it): %.200s", out)
	}
	return tool, ""
}

// shim stands for the header of librdkafka's own source tree that the example includes: what it uses of it.
const shim = `#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#define rd_snprintf snprintf
#define RD_UNUSED __attribute__((unused))
#define RD_MIN(a, b) ((a) < (b) ? (a) : (b))
#define RD_MAX(a, b) ((a) > (b) ? (a) : (b))
#define RD_NORETURN __attribute__((noreturn))
typedef int64_t rd_ts_t;
static inline rd_ts_t rd_clock(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (rd_ts_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
`

// rdkafkaRow produces with librdkafka for about the window, after a warm-up of the JVM.
func rdkafkaRow(tool string) func(context.Context, string) (figure, error) {
	return func(ctx context.Context, who string) (figure, error) {
		s, err := newServer(who)
		if err != nil {
			return figure{}, err
		}
		defer s.stop()
		if err := createTopics(ctx, s.addr, 6, "warm", "bench"); err != nil {
			return figure{}, err
		}
		send := func(topic string, count int) (mbps float64, gb float64, err error) {
			out, err := exec.CommandContext(ctx, tool, "-P", "-t", topic, "-s", "1000", "-c", strconv.Itoa(count), "-a", "-1", "-b", s.addr,
				"-X", "queue.buffering.max.messages=500000", "-X", "linger.ms=5").CombinedOutput()
			if err != nil {
				return 0, 0, fmt.Errorf("%w: %s", err, out[max(0, len(out)-500):]) // warnings about its own defaults come first
			}
			m := regexp.MustCompile(`in (\d+)ms: (\d+) msgs/s and ([\d.]+) MB/s`).FindAllSubmatch(out, -1)
			if len(m) == 0 {
				return 0, 0, fmt.Errorf("no figure in %.300s", out)
			}
			v, _ := strconv.ParseFloat(string(m[len(m)-1][3]), 64)
			return v, float64(count) * 1000 / 1e9, nil
		}
		warmCount := 500_000
		if who == "kafka" {
			warmCount = 4_000_000
		}
		if _, _, err := send("warm", warmCount); err != nil {
			return figure{}, err
		}
		m := s.meter()
		mbps, gb, err := send("bench", 3_000_000)
		if err != nil {
			return figure{}, err
		}
		cpu, _ := m.stop()
		return figure{mbps, cpu / gb, 0}, nil
	}
}
