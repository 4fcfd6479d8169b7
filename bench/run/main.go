// Command run measures Moldau beside Apache Kafka 4.4 in one run on one machine and prints ratios: order A B B A, fresh
// directory and topic each time, the JVM warmed up with the load it is then measured with, page cache touched before each
// server, median and range. A bare skeleton broker under the same load is the limit. Foreign CPU is sampled and printed, so
// that a run on a busy machine is seen as one.
//
// It needs ../shared/oracle beside the project for Kafka and gcc with librdkafka-dev for the librdkafka row; what is missing
// is said and left out.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

var (
	rounds = flag.Int("rounds", 1, "times A B B A")
	window = flag.Duration("window", 5*time.Second, "timed window of each measurement")
	warm   = flag.Duration("warm", 15*time.Second, "the same load before the window, for the JVM")
	rows   = flag.String("rows", "", "only rows whose name contains this")
	built  = flag.String("moldau", "./moldau", "the Moldau binary")
	noKafk = flag.Bool("alone", false, "without Apache Kafka: Moldau and the skeleton only")
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// figure is one measured value of one server in one turn.
type figure struct {
	value   float64 // throughput in the row's unit, or milliseconds, or MB
	cpu     float64 // broker CPU seconds per GB (or microseconds per request), 0 when not a load row
	foreign float64 // share of CPU that neither server nor load used
}

func run(ctx context.Context) error {
	list := append(allRows(), groupRows()...)
	order := []string{"kafka", "moldau", "moldau", "kafka"}
	if *noKafk || !haveKafka() {
		fmt.Println("Apache Kafka is not measured")
		order = []string{"moldau", "moldau"}
	}
	for _, r := range list {
		if !strings.Contains(r.name, *rows) {
			continue
		}
		got := map[string][]figure{}
		turns := order
		if r.limit {
			turns = append([]string{"skeleton"}, turns...)
		}
		for range *rounds {
			for _, who := range turns {
				f, err := r.measure(ctx, who)
				if err != nil {
					return fmt.Errorf("%s on %s: %w", r.name, who, err)
				}
				got[who] = append(got[who], f)
			}
		}
		r.print(got)
	}
	for _, s := range allSeries() {
		if !strings.Contains(s.name, *rows) {
			continue
		}
		if err := s.run(ctx, order); err != nil {
			return err
		}
	}
	return nil
}

func (r row) print(got map[string][]figure) {
	fmt.Printf("\n%s (%s)\n", r.name, r.unit)
	for _, who := range []string{"kafka", "moldau", "skeleton"} {
		if len(got[who]) == 0 {
			continue
		}
		v, c := spread(got[who], func(f figure) float64 { return f.value }), spread(got[who], func(f figure) float64 { return f.cpu })
		fmt.Printf("  %-9s %s", who, v)
		if r.cpuUnit != "" {
			fmt.Printf("   broker CPU %s %s", c, r.cpuUnit)
		}
		fmt.Printf("   foreign CPU %.0f%%\n", 100*slices.MaxFunc(got[who], func(a, b figure) int { return int(1e6 * (a.foreign - b.foreign)) }).foreign)
	}
	if k, m := got["kafka"], got["moldau"]; len(k) > 0 && len(m) > 0 {
		fmt.Printf("  moldau/kafka: %.2fx", median(m, func(f figure) float64 { return f.value })/median(k, func(f figure) float64 { return f.value }))
		if r.cpuUnit != "" {
			fmt.Printf(", CPU %.2fx", median(m, func(f figure) float64 { return f.cpu })/median(k, func(f figure) float64 { return f.cpu }))
		}
		fmt.Println()
	}
}

func values(fs []figure, of func(figure) float64) []float64 {
	var all []float64
	for _, f := range fs {
		all = append(all, of(f))
	}
	slices.Sort(all)
	return all
}

func median(fs []figure, of func(figure) float64) float64 {
	v := values(fs, of)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func spread(fs []figure, of func(figure) float64) string {
	v := values(fs, of)
	return fmt.Sprintf("%9.2f (%.2f-%.2f)", median(fs, of), v[0], v[len(v)-1])
}
