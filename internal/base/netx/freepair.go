package netx

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// FreePair returns a port that was free a moment ago together with the port gap above it, for tests that start a node in a process
// of its own with its controller on the second. Both lie below the range from which the system takes ports for outgoing
// connections (32768 and up on Linux): a port asked for with ":0" lies inside it and can be taken by anybody's connection before
// the node listens.
func FreePair(rnd *rand.Rand, gap int) (int, error) {
	for range 200 {
		port := 15000 + rnd.IntN(17000-gap)
		if free(port) && free(port+gap) {
			return port, nil
		}
	}
	return 0, errors.New("no free pair of ports between 15000 and 32000")
}

func free(port int) bool {
	ln, err := net.Listen("tcp", fmt.Sprintf("localhost:%d", port))
	if err != nil {
		return false
	}
	return ln.Close() == nil
}
