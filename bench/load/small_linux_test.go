//go:build linux

package load

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// TestAnswerToNothing gives one answer more than requests are under way.
func TestAnswerToNothing(t *testing.T) {
	var four [][]byte
	for n := range int64(4) {
		four = append(four, sized(ordinal(100+n, 0)))
	}
	addr := listen(t, hundredAnd(bytes.Join(four, nil)))
	got, err := Ask(context.Background(), Options{Addr: addr, Conns: 1, InFlight: 3, Duration: time.Minute},
		func(_ int, n int64) []byte { return sized(ordinal(n, 0)) }, func(int, []byte) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "answer to nothing") || got.Requests < 100 {
		t.Fatalf("%d requests, %v", got.Requests, err)
	}
}
