package netx

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

func TestFreePairSkipsTakenPorts(t *testing.T) {
	first, err := FreePair(rand.New(rand.NewPCG(1, 2)), 101)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", fmt.Sprintf("localhost:%d", first+101))
	if err != nil {
		t.Skip("somebody took the port: ", err)
	}
	defer ln.Close()
	second, err := FreePair(rand.New(rand.NewPCG(1, 2)), 101)
	if err != nil || second == first {
		t.Errorf("the same seed gave %d again although its neighbour is taken (%v)", second, err)
	}
	if first < 15000 || first+101 >= 32768 {
		t.Errorf("port %d lies outside the range", first)
	}
}
