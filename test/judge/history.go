package judge

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// mode is a kind of run.
type mode struct {
	name string
	make func(*history)
}

var modes = []mode{
	{"classic", (*history).classic},
	{"consumer", (*history).consumer},
	{"migration", (*history).migration},
	{"uniform", (*history).uniform},
	{"patterns", (*history).patterns},
}

// history is the steps of one run while they are made.
type history struct {
	rnd             *rand.Rand
	calm            int  // calm clients do mostly what is right
	losses, holding bool // whether records get lost, and whether they are held back now
	groups          bool // of the consumer protocol
	clients         int
	topics          []string
	sizes           int            // one more than the most partitions of a topic
	count           map[string]int // partitions, by topic
	steps           []string
}

// newHistory makes the steps of one run.
func newHistory(m mode, seed uint64) []string {
	h := &history{rnd: rand.New(rand.NewPCG(seed, 99)), clients: clients, sizes: 6, count: map[string]int{}}
	h.losses, h.calm = h.one(2), 1+h.rnd.IntN(8)
	m.make(h)
	return h.steps
}

func modeOf(seed uint64) mode { return modes[seed%uint64(len(modes))] }

func modeNamed(name string) (mode, bool) {
	i := slices.IndexFunc(modes, func(m mode) bool { return m.name == name })
	if i < 0 {
		return mode{}, false
	}
	return modes[i], true
}

func (h *history) pick(of ...string) string { return of[h.rnd.IntN(len(of))] }
func (h *history) one(in int) bool          { return h.rnd.IntN(in) == 0 }

// odd is a time: few deadlines come at the same moment, since their order is open.
func (h *history) odd(from, n int) int { return from + h.rnd.IntN(n) | 1 }

func (h *history) add(format string, args ...any) {
	h.steps = append(h.steps, fmt.Sprintf(format, args...))
}

func (h *history) client() int { return h.rnd.IntN(h.clients) }

func (h *history) group() string {
	if h.one(12 * h.calm) {
		return "h"
	}
	return "g"
}

// instance is the group instance id of a client: every other one is static.
func instance(c int) string {
	if c%2 == 0 {
		return fmt.Sprintf("i%d", c)
	}
	return "-"
}

func (h *history) someID() string {
	return h.pick("''", "stranger", fmt.Sprintf("#%d", h.rnd.IntN(30)), fmt.Sprintf("@%d", h.client()), fmt.Sprintf("@%d", h.client()), fmt.Sprintf("@%d", h.client()))
}

// who is mostly the client itself.
func (h *history) who(c, wrong int) string {
	if h.one(wrong * h.calm) {
		return fmt.Sprintf("member=%s inst=%s", h.someID(), h.pick("-", fmt.Sprintf("i%d", h.client()), instance(h.client()), instance(h.client())))
	}
	return fmt.Sprintf("member=@%d inst=%s", c, instance(c))
}

// asks is the odds of what a client of the classic protocol asks for, of 74.
const asks = 74

// embedded is what clients say that use the classic protocol: the type, and what JoinGroup and SyncGroup carry.
type embedded struct {
	kind, first string
	protos      func(h *history, c int) string
	assign      func(h *history) string
}

// dialect is what its users make up.
var dialect = embedded{"t", "p", func(h *history, _ int) string {
	if h.one(3) {
		return h.pick("p:x", "p:x,q:x", "q:x,p:x", "p:y,q:x", "p:x,q:x", "q:x", "p:x,q:x,r:x")
	}
	return "p:x,q:x"
}, func(h *history) string {
	var to []string
	for c := range clients {
		if !h.one(3) {
			to = append(to, fmt.Sprintf("@%d:A%d", c, h.rnd.IntN(100)))
		}
	}
	return strings.Join(append(to, "nobody:A"), ",")
}}

// classicAsks adds what client c of the classic protocol asks for next; k of asks says what.
func (h *history) classicAsks(e embedded, k, c int, group string) {
	switch {
	case k < 38:
		protos, kind := e.protos(h, c), e.kind
		switch h.rnd.IntN(40 * h.calm) {
		case 0:
			protos = "-"
		case 1:
			kind = "u"
		case 2:
			kind = "''"
		}
		as := h.who(c, 8)
		if h.one(5*h.calm) || instance(c) != "-" && h.one(3) { // a static one begins anew, as the same
			as = "member='' inst=" + instance(c)
		}
		h.add("join c=%d group=%s v=%s %s session=%d rebalance=%d type=%s protos=%s", c, group, h.pick("1", "3", "4", "8", "9", "9"), as, h.odd(1000, 9000*h.calm), h.odd(600, 12000), kind, protos)
	case k < 58:
		gen, kind, proto := fmt.Sprintf("@%d", c), "-", "-"
		if h.one(10) {
			gen += h.pick("+1", "-1")
		}
		if h.one(8) {
			kind = h.pick(e.kind, "u")
		}
		if h.one(8) {
			proto = h.pick(e.first, "q", "r")
		}
		h.add("sync c=%d group=%s %s gen=%s ptype=%s pname=%s assign=%s", c, group, h.who(c, 8), gen, kind, proto, e.assign(h))
	case k < 68:
		h.add("hb group=%s %s gen=@%d", group, h.who(c, 5), c)
	default:
		var l []string
		for range 1 + h.rnd.IntN(3) {
			l = append(l, h.someID()+"/"+h.pick("-", "-", instance(h.client()), fmt.Sprintf("i%d", h.client())))
		}
		h.add("leave group=%s members=%s", group, strings.Join(l, ","))
	}
}

// happens is the odds of what happens besides, of 34.
const happens = 34

// besides adds what is not asked by a member for its membership; k of happens says what.
func (h *history) besides(k, c int, group, member string) {
	switch {
	case k < 16:
		ms := h.rnd.IntN(4000)
		if h.one(3 * h.calm) {
			ms = h.rnd.IntN(12000)
		}
		if h.groups && h.one(4*h.calm) {
			ms = h.rnd.IntN(50_000)
		}
		if h.one(40 * h.calm) {
			ms = 300_000 + h.rnd.IntN(400_000)
		}
		h.add("advance ms=%d", ms)
	case k < 18:
		h.add("delete group=%s", group)
	case k < 19:
		h.restart()
	case k < 24:
		gen, as, v := fmt.Sprintf("@%d", c), member, h.pick("7", "9")
		if h.groups {
			v = "9"
		}
		if h.one(4) {
			gen, as = "-1", "member='' inst=-"
		}
		h.add("commit group=%s v=%s %s gen=%s p=%d offset=%d", group, v, as, gen, h.rnd.IntN(3), h.rnd.IntN(1000))
	case k < 26:
		h.add("offdel group=%s p=%d", group, h.rnd.IntN(3))
	case k < 34 && !h.losses:
	case !h.holding:
		h.hold()
	default:
		h.unhold()
	}
}

func (h *history) restart() {
	h.add("restart max=%d", 2+h.rnd.IntN(7))
	h.holding = false
}

func (h *history) hold() {
	h.add("hold")
	h.holding = true
}

func (h *history) unhold() {
	s := h.pick("release", "lose")
	h.add("%s", s)
	h.holding = false
	if h.groups && s == "lose" { // see ruleLost
		h.restart()
	}
}

// classic is a run of classic groups.
func (h *history) classic() {
	h.add("init seed=%d delay=%s max=%d interval=0", h.rnd.IntN(1_000_000), h.pick("0", "499", "3001"), 2+h.rnd.IntN(7))
	for len(h.steps) < runSteps {
		c, group, k := h.client(), h.group(), h.rnd.IntN(asks+happens)
		if h.calm > 1 && (k >= 68 && k < asks || k >= asks+6 && k < asks+19) && !h.one(h.calm) {
			k = h.rnd.IntN(asks + 6) // less leaves, ends or takes long
		}
		if k < 38 && h.calm > 1 && !h.one(3) {
			k += 25 // sync and hb
		}
		switch {
		case h.holding && h.one(6):
			h.unhold()
		case k < asks:
			h.classicAsks(dialect, k, c, group)
		default:
			h.besides(k-asks, c, group, h.who(c, 8))
		}
		last := h.steps[len(h.steps)-1]
		if h.losses && !h.holding && strings.HasPrefix(last, "sync") && h.one(4) { // perhaps it is stable now: one is replaced, or not after all
			c := 2 * h.rnd.IntN(3)
			h.hold()
			h.add("join c=%d group=%s v=%s member='' inst=i%d session=%d rebalance=%d type=t protos=p:x,q:x", c, group, h.pick("8", "9"), c, h.odd(1000, 9000*h.calm), h.odd(600, 12000))
			h.unhold()
		}
		if h.holding && strings.HasPrefix(last, "join") && strings.Contains(last, "member='' inst=i") { // see ruleHeld
			h.unhold()
		}
	}
	h.steps = append(h.steps, "release", "advance ms=30000", "advance ms=700000")
}

// consumers adds a heartbeat of client c. Who joins says "brief" if it would leave out later what has not changed.
func (h *history) beat(c int, group, member, more string) {
	inst := instance(c)
	epoch, has := fmt.Sprintf("@%d", c), h.pick("-", fmt.Sprintf("@%d", c))
	switch h.rnd.IntN(20 * h.calm) {
	case 0:
		epoch = "0"
	case 1:
		epoch += h.pick("+1", "-1")
	case 2:
		epoch = "-1"
	case 3:
		if inst != "-" {
			epoch = "-2"
		}
	}
	h.add("beat c=%d group=%s member=%s inst=%s epoch=%s rebalance=%d %s has=%s brief=%s", c, group, member, inst, epoch, h.odd(5000, 40000), more, has, h.pick("0", "1", "1"))
}

// member is the id of a client of the consumer protocol.
func (h *history) member(c int) string {
	switch {
	case h.one(25 * h.calm):
		return h.pick("stranger", fmt.Sprintf("m%d", h.client()))
	case c%2 == 0 && h.one(8*h.calm):
		return fmt.Sprintf("m%db", c) // the instance comes back as another
	}
	return fmt.Sprintf("m%d", c)
}

func (h *history) topic() {
	h.topicOf(h.pick(h.topics...), h.rnd.IntN(h.sizes))
}

// topicOf gives a topic so many partitions, if it has fewer; with none it goes.
func (h *history) topicOf(name string, n int) {
	h.add("topic name=%s n=%d", name, n)
	if h.count[name] = max(h.count[name], n); n == 0 {
		h.count[name] = 0
	}
}

// consumer is a run of consumer groups.
func (h *history) consumer() {
	h.groups, h.topics = true, []string{"t", "u"}
	h.add("init seed=%d delay=0 max=%d interval=%s", h.rnd.IntN(1_000_000), 3+h.rnd.IntN(6), h.pick("0", "0", "1000"))
	h.topicOf("t", 3)
	h.topicOf("u", 2)
	var reads [clients]string
	for len(h.steps) < runSteps {
		c, group, k := h.client(), h.group(), h.rnd.IntN(100)
		member := h.member(c)
		if reads[c] == "" || h.one(12) {
			reads[c] = h.pick("t", "t,u", "u", "t,u")
		}
		switch {
		case h.holding && h.one(6):
			h.unhold()
		case k < 62:
			h.beat(c, group, member, "topics="+reads[c])
		case k < 66:
			h.topic()
		default:
			h.besides(k-66, c, group, fmt.Sprintf("member=%s inst=%s", member, instance(c)))
		}
	}
	h.steps = append(h.steps, "release", "advance ms=60000", "advance ms=900000")
}

// embed is what consumers say that use the classic protocol: what they read and have, and who shall have what.
func embed(reads *[clients]string) embedded {
	return embedded{"consumer", "range", func(h *history, c int) string {
		sub := fmt.Sprintf("sub%d/%s/@%d", h.rnd.IntN(4), strings.ReplaceAll(reads[c], ",", "+"), c)
		if h.one(20 * h.calm) {
			sub = "x"
		}
		if h.one(4) {
			return "range:" + sub + ",roundrobin:" + sub
		}
		return "range:" + sub
	}, func(h *history) string {
		if h.one(20 * h.calm) {
			return "@0:A,@1:A"
		}
		parts := make([][]string, clients)
		for _, t := range h.topics {
			n := h.count[t]
			if h.one(20 * h.calm) {
				n++ // one that is not there
			}
			for p := range n {
				c := h.client()
				if !h.one(10 * h.calm) {
					parts[c] = append(parts[c], fmt.Sprintf("%s-%d", t, p))
				}
				if h.one(20 * h.calm) { // to a second one
					c = h.client()
					parts[c] = append(parts[c], fmt.Sprintf("%s-%d", t, p))
				}
			}
		}
		var to []string
		user := ""
		if h.one(20 * h.calm) {
			user = "/user"
		}
		for c, l := range parts {
			to = append(to, fmt.Sprintf("@%d:part%d/%s%s", c, h.rnd.IntN(4), strings.Join(l, "+"), user))
		}
		return strings.Join(to, ",")
	}}
}

// migration is a run of groups whose clients change from one protocol to the other.
func (h *history) migration() {
	h.calm += 2 * h.rnd.IntN(3)
	h.groups, h.topics = true, []string{"t", "u"}
	h.add("init seed=%d delay=%s max=%d interval=%s policy=%s assignors=%s", h.rnd.IntN(1_000_000), h.pick("0", "0", "499"), 3+h.rnd.IntN(6), h.pick("0", "0", "1000"),
		h.pick("bidirectional", "bidirectional", "bidirectional", "bidirectional", "bidirectional", "upgrade", "upgrade", "downgrade", "disabled"), h.pick("range", "uniform"))
	h.topicOf("t", 3)
	h.topicOf("u", 2)
	var reads [clients]string
	var pattern [clients]string
	var modern [clients]bool
	e := embed(&reads)
	for len(h.steps) < runSteps {
		c, group, k := h.client(), h.group(), h.rnd.IntN(100)
		if reads[c] == "" || h.one(20*h.calm) {
			reads[c] = h.pick("t", "t,u", "t,u", "t,u", "u")
			if pattern[c] = "regex='' topics=" + reads[c]; h.one(5) {
				pattern[c] = "topics='' regex=" + h.pick("[tu]", "u|v")
			}
		}
		member := h.member(c)
		if h.one(12 * h.calm) {
			member = fmt.Sprintf("@%d", c) // under the id that it had
		}
		if h.one(8 * h.calm) {
			away := "-1"
			if instance(c) != "-" {
				away = "-2"
			}
			if modern[c] && h.one(2) {
				h.add("beat c=%d group=%s member=@%d inst=%s epoch=%s rebalance=-1 topics=- has=- brief=0", c, group, c, instance(c), h.pick("-1", away))
			} else if h.one(2) {
				h.add("leave group=%s members=@%d/%s", group, c, instance(c))
			}
			modern[c] = !modern[c]
		}
		switch {
		case h.holding && h.one(6):
			h.unhold()
		case k < 64 && modern[c]:
			h.beat(c, group, member, pattern[c])
		case k < 64 && h.calm > 1 && !h.one(h.calm):
			h.add("goes c=%d group=%s v=%s member=@%d inst=%s session=%d rebalance=%d type=consumer protos=%s gen=@%d ptype=consumer pname=- assign=%s", c, group,
				h.pick("3", "8", "9"), c, instance(c), h.odd(1000, 9000*h.calm), h.odd(600, 12000), e.protos(h, c), c, e.assign(h))
		case k < 64:
			k := h.rnd.IntN(asks)
			if h.calm > 1 && k >= 68 && !h.one(h.calm) {
				k = h.rnd.IntN(68)
			}
			h.classicAsks(e, k, c, group)
		case k < 66:
			h.topic()
		default:
			h.besides(k-66, c, group, h.pick(h.who(c, 8), fmt.Sprintf("member=%s inst=%s", member, instance(c))))
		}
	}
	h.steps = append(h.steps, "release", "advance ms=60000", "advance ms=900000")
}

// some is a part of a list, most of it.
func (h *history) some(list []string) string {
	var l []string
	for _, s := range list {
		if !h.one(3) {
			l = append(l, s)
		}
	}
	if l == nil {
		return h.pick(list...)
	}
	return strings.Join(l, ",")
}

// uniform is a run of consumer groups with the assignor uniform, and range besides, whose members mostly read the same or mostly do not.
func (h *history) uniform() {
	h.groups, h.topics, h.clients, h.sizes = true, []string{"t", "u", "v", "w"}, 3+h.rnd.IntN(6), 8
	asked := h.pick("-", "-", "range", "uniform", "both") // by name; ruleTie ends runs where it is both
	h.add("init seed=%d delay=0 max=%d interval=%s assignors=%s", h.rnd.IntN(1_000_000), 5+h.rnd.IntN(8), h.pick("0", "0", "1000"), map[string]string{"-": "uniform", "both": "uniform,range", "range": "uniform,range", "uniform": "range,uniform"}[asked])
	for _, t := range h.topics {
		h.topicOf(t, 1+h.rnd.IntN(7))
	}
	same, all := h.one(2), h.some(h.topics)
	reads, wants := make([]string, h.clients), make([]string, h.clients)
	for len(h.steps) < runSteps {
		c, group, k := h.client(), h.group(), h.rnd.IntN(100)
		member := h.member(c)
		if same && h.one(60) {
			all = h.some(h.topics)
		}
		switch {
		case reads[c] == "" && same, h.one(8) && same:
			reads[c] = all
		case reads[c] == "", h.one(12) && !same:
			reads[c] = h.some(h.topics)
		}
		if wants[c] == "" {
			if wants[c] = h.pick("-", asked); wants[c] == "both" {
				wants[c] = h.pick("range", "range", "range", "range", "uniform")
			}
		}
		switch {
		case h.holding && h.one(6):
			h.unhold()
		case k < 64:
			h.beat(c, group, member, fmt.Sprintf("topics=%s assignor=%s", reads[c], wants[c]))
		case k < 67:
			h.topic()
		default:
			h.besides(k-67, c, group, fmt.Sprintf("member=%s inst=%s", member, instance(c)))
		}
	}
	h.steps = append(h.steps, "release", "advance ms=60000", "advance ms=900000")
}

// patterns is a run of consumer groups whose members read what fits a pattern, or topics by name, or both.
func (h *history) patterns() {
	h.groups, h.topics, h.clients = true, []string{"t", "u", "v", "w"}, 3+h.rnd.IntN(4)
	h.add("init seed=%d delay=0 max=%d interval=%s assignors=%s refresh=%s", h.rnd.IntN(1_000_000), 3+h.rnd.IntN(8), h.pick("0", "0", "1000"), h.pick("uniform", "range"), h.pick("600000", "30000"))
	h.topicOf("t", 3)
	h.topicOf("u", 2)
	reads := make([]string, h.clients)
	for len(h.steps) < runSteps {
		c, group, k := h.client(), h.group(), h.rnd.IntN(100)
		member := h.member(c)
		if reads[c] == "" || h.one(12) {
			pattern := h.pick("[tu]", "[tu]", "t|v", ".", "[^t]", "x+", "t", "(?i)U", "[", "''")
			switch h.rnd.IntN(5) {
			case 0:
				reads[c] = "topics=" + h.some(h.topics) + " regex=''"
			case 1:
				reads[c] = "topics=" + h.some(h.topics) + " regex=" + pattern
			case 2:
				reads[c] = "topics=- regex=" + pattern
			default:
				reads[c] = "topics='' regex=" + pattern
			}
		}
		switch {
		case h.holding && h.one(6):
			h.unhold()
		case k < 56:
			h.beat(c, group, member, reads[c])
		case k < 61:
			h.topic()
		case k < 66:
			h.add("advance ms=%s", h.pick("0", "0", "10001")) // what patterns mean is looked for, or may be again
		default:
			h.besides(k-66, c, group, fmt.Sprintf("member=%s inst=%s", member, instance(c)))
		}
	}
	h.steps = append(h.steps, "release", "advance ms=60000", "advance ms=900000")
}
