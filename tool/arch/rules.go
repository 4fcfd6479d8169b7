package arch

// rule says what the packages below one path may import from this module and from outside it.
type rule struct {
	room   string   // path below the module root; the longest match wins
	may    []string // prefixes of module packages it may import, besides itself
	libs   []string // prefixes of foreign modules it may import; nil: none, "*": any
	reason string   // printed when the rule is broken
}

// base leaves without I/O: the only base packages that core may see.
var pureLeaves = []string{"internal/base/id", "internal/base/conf"}

// rules is the table of ARCHITECTURE.md, "Who may import whom", in the same order.
var rules = []rule{
	{"cmd/moldau", []string{"internal/cli"}, nil, "main only calls the command line"},
	{"embedded", []string{"internal/base", "internal/node"}, nil, "embedded hosts a node and knows nothing below it"},
	{"internal/base", []string{"internal/base"}, []string{"golang.org/x/sys", "github.com/prometheus"}, "base is the ground: nothing of the house lies below it"},
	{"internal/wire", []string{"internal/wire", "internal/base/id"}, nil, "wire knows bytes and names, nothing else"},
	{"internal/record", []string{"internal/wire", "internal/base/id"}, []string{"github.com/klauspost/compress", "github.com/pierrec/lz4"}, "records are a view over bytes"},
	{"internal/core", append([]string{"internal/core", "internal/wire", "internal/record"}, pureLeaves...), nil, "core is pure: it decides, others do"},
	{"internal/engine/log", []string{"internal/engine/log", "internal/record", "internal/wire", "internal/base"}, []string{"golang.org/x/sys"}, "the log is the lowest engine: calls go down, never up"},
	{"internal/engine/replica", []string{"internal/engine/replica", "internal/engine/log", "internal/core", "internal/record", "internal/wire", "internal/base"}, nil, "replica calls the log and asks core/partition"},
	{"internal/engine/coord", []string{"internal/engine/coord", "internal/engine/replica", "internal/engine/log", "internal/core", "internal/record", "internal/wire", "internal/base"}, nil, "coordinators append through replica"},
	{"internal/engine/quorum", []string{"internal/engine/quorum", "internal/engine/log", "internal/core", "internal/record", "internal/wire", "internal/base"}, nil, "the quorum drives raft and the controller over its own log"},
	{"internal/broker/server", []string{"internal/broker/server", "internal/wire", "internal/base"}, []string{"golang.org/x/sys"}, "the door knows a handler registry and frames, no floor"},
	{"internal/broker/handler", []string{"internal/broker", "internal/engine", "internal/core", "internal/record", "internal/wire", "internal/base"}, nil, "the desk calls one floor below"},
	{"internal/broker", []string{"internal/broker", "internal/engine", "internal/core", "internal/record", "internal/wire", "internal/base"}, nil, "broker rooms see the floors below and wire"},
	{"internal/node", []string{"internal/node", "internal/broker", "internal/engine", "internal/core", "internal/record", "internal/wire", "internal/base"}, []string{"github.com/prometheus"}, "the composition root may know everything but the command line"},
	{"internal/cli", []string{"internal/cli", "internal/node", "internal/core", "internal/record", "internal/wire", "internal/base", "internal/engine/log", "internal/engine/quorum"}, []string{"*"}, "tools are clients; the offline ones read files through log, record and core"},
	{"internal/sim", []string{"internal/sim", "internal/core", "internal/record", "internal/wire", "internal/base"}, nil, "the simulation steps cores"},
	{"tool", []string{"tool", "internal/wire", "internal/base"}, []string{"*"}, "tools generate and check"},
	{"test", []string{"test", "internal", "embedded"}, []string{"*"}, "tests may look anywhere"},
	{"bench", []string{"bench", "internal", "embedded"}, []string{"*"}, "benchmarks may look anywhere"},
}

// bannedInCore are packages that bring clocks, I/O, locks or loggers into a decision.
var bannedInCore = map[string]string{
	"os": "files belong to engine", "net": "the network belongs to the door", "sync": "core has one caller at a time",
	"sync/atomic": "core has one caller at a time", "log": "core's effects are its log", "log/slog": "core's effects are its log",
	"math/rand": "randomness is an argument (*rand.Rand of math/rand/v2)", "crypto/rand": "randomness is an argument",
	"context": "core does not wait", "syscall": "files belong to engine", "io/fs": "files belong to engine",
}

// forTests are packages that only tests may import.
var forTests = []string{"internal/base/seed", "internal/base/race"}

// freshInTests are the tests' files that may ask for chance, and what for; in others a random test begins with its seed
// (internal/base/seed), or a green run could not be repeated.
var freshInTests = map[string]string{
	"internal/broker/ctlhandler/raft_desk_test.go":   "ids and election jitter of a real controller",
	"internal/broker/lifecycle/node_test.go":         "ids and election jitter of a real controller",
	"internal/engine/quorum/quorum_test.go":          "ids and election jitter of a real controller",
	"internal/broker/ctlhandler/raft_oracle_test.go": "free ports",
	"internal/engine/quorum/oracle_test.go":          "a free port",
	"internal/cli/adminline_test.go":                 "a free port",
	"test/diff/diff_test.go":                         "a free port",
	"test/power/volume_test.go":                      "a free port",
	"test/checker/run/main.go":                       "a program with a flag: make checker gives it its seed",
}

// bannedCalls are functions that core must not call although their package is allowed.
var bannedCalls = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
	"math/rand/v2": {"Int", "IntN", "Int32", "Int32N", "Int64", "Int64N", "Uint", "UintN", "Uint32", "Uint32N", "Uint64", "Uint64N", "Float32", "Float64", "NormFloat64",
		"ExpFloat64", "Perm", "Shuffle", "N"},
}
