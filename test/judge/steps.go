package judge

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// A step is a line: a word, then name=value pairs. Who is meant stays open until the step is run, so that steps before it can be
// taken out: "@2" is the id that client 2 was told last, "#3" the fourth id that anybody was told, "gen=@2+1" the generation of
// client 2 and one more. A plain "-" is null, a pair of single quotes is empty.

const clients = 5

// runSteps is how long a run is, without its end.
const runSteps = 150

// history makes the steps of one run.
func history(seed uint64) []string {
	if seed%2 == 1 {
		return generateConsumers(seed)
	}
	return generate(seed)
}

// generate makes the steps of one run of classic groups.
func generate(seed uint64) []string {
	rnd := rand.New(rand.NewPCG(seed, 99))
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	one := func(in int) bool { return rnd.IntN(in) == 0 }
	odd := func(from, n int) int { return from + rnd.IntN(n) | 1 } // few deadlines at the same moment: their order is open
	losses, calm := one(2), 1+rnd.IntN(8)                          // calm clients do mostly what is right
	steps := []string{fmt.Sprintf("init seed=%d delay=%s max=%d interval=0", seed, pick("0", "499", "3001"), 2+rnd.IntN(7))}
	own := func(c int) string { // its group instance id: every other client is static
		if c%2 == 0 {
			return fmt.Sprintf("i%d", c)
		}
		return "-"
	}
	client := func() int { return rnd.IntN(clients) }
	someID := func() string {
		return pick("''", "stranger", fmt.Sprintf("#%d", rnd.IntN(30)), fmt.Sprintf("@%d", client()), fmt.Sprintf("@%d", client()), fmt.Sprintf("@%d", client()))
	}
	who := func(c, wrong int) string { // mostly itself
		if one(wrong * calm) {
			return fmt.Sprintf("member=%s inst=%s", someID(), pick("-", fmt.Sprintf("i%d", client()), own(client()), own(client())))
		}
		return fmt.Sprintf("member=@%d inst=%s", c, own(c))
	}
	holding := false
	for len(steps) < runSteps {
		c, group := client(), "g"
		if one(12 * calm) {
			group = "h"
		}
		var s string
		k := rnd.IntN(108)
		if calm > 1 && (k >= 68 && k < 74 || k >= 80 && k < 93) && !one(calm) {
			k = rnd.IntN(80) // less leaves, ends or takes long
		}
		if k < 38 && calm > 1 && !one(3) {
			k += 25 // sync and hb
		}
		if holding && one(6) {
			k = 107
		}
		switch {
		case k < 38:
			protos, kind := pick("p:x", "p:x,q:x", "q:x,p:x", "p:y,q:x", "p:x,q:x", "q:x", "p:x,q:x,r:x"), "t"
			if !one(3) {
				protos = "p:x,q:x"
			}
			switch rnd.IntN(40 * calm) {
			case 0:
				protos = "-"
			case 1:
				kind = "u"
			case 2:
				kind = "''"
			}
			as := who(c, 8)
			if one(5*calm) || own(c) != "-" && one(3) { // a static one begins anew, as the same
				as = "member='' inst=" + own(c)
			}
			s = fmt.Sprintf("join c=%d group=%s v=%s %s session=%d rebalance=%d type=%s protos=%s", c, group, pick("1", "3", "4", "8", "9", "9"), as, odd(1000, 9000*calm), odd(600, 12000), kind, protos)
		case k < 58:
			gen, kind, proto := fmt.Sprintf("@%d", c), "-", "-"
			if one(10) {
				gen += pick("+1", "-1")
			}
			if one(8) {
				kind = pick("t", "u")
			}
			if one(8) {
				proto = pick("p", "q", "r")
			}
			var to []string
			for o := range clients {
				if !one(3) {
					to = append(to, fmt.Sprintf("@%d:A%d", o, rnd.IntN(100)))
				}
			}
			s = fmt.Sprintf("sync c=%d group=%s %s gen=%s ptype=%s pname=%s assign=%s", c, group, who(c, 8), gen, kind, proto, strings.Join(append(to, "nobody:A"), ","))
		case k < 68:
			s = fmt.Sprintf("hb group=%s %s gen=@%d", group, who(c, 5), c)
		case k < 74:
			var l []string
			for range 1 + rnd.IntN(3) {
				l = append(l, someID()+"/"+pick("-", "-", own(client()), fmt.Sprintf("i%d", client())))
			}
			s = fmt.Sprintf("leave group=%s members=%s", group, strings.Join(l, ","))
		case k < 90:
			ms := rnd.IntN(4000)
			if one(3 * calm) {
				ms = rnd.IntN(12000)
			}
			if one(40 * calm) {
				ms = 300_000 + rnd.IntN(400_000)
			}
			s = fmt.Sprintf("advance ms=%d", ms)
		case k < 92:
			s = "delete group=" + group
		case k < 93:
			s, holding = fmt.Sprintf("restart max=%d", 2+rnd.IntN(6)), false
		case k < 98:
			gen, as := fmt.Sprintf("@%d", c), who(c, 8)
			if one(4) {
				gen, as = "-1", "member='' inst=-"
			}
			s = fmt.Sprintf("commit group=%s v=%s %s gen=%s p=%d offset=%d", group, pick("7", "9"), as, gen, rnd.IntN(3), rnd.IntN(1000))
		case k < 100:
			s = fmt.Sprintf("offdel group=%s p=%d", group, rnd.IntN(3))
		case !losses:
			continue
		case !holding:
			s, holding = "hold", true
		default:
			s, holding = pick("release", "lose"), false
		}
		steps = append(steps, s)
		if losses && !holding && strings.HasPrefix(s, "sync") && one(4) { // perhaps it is stable now: one is replaced, or not after all
			c := 2 * rnd.IntN(3)
			steps = append(steps, "hold", fmt.Sprintf("join c=%d group=%s v=%s member='' inst=i%d session=%d rebalance=%d type=t protos=p:x,q:x", c, group, pick("8", "9"), c, odd(1000, 9000*calm), odd(600, 12000)), pick("release", "lose"))
		}
		if holding && strings.HasPrefix(s, "join") && strings.Contains(s, "member='' inst=i") { // see ruleHeld
			steps, holding = append(steps, pick("release", "lose")), false
		}
	}
	return append(steps, "release", "advance ms=30000", "advance ms=700000")
}

// generateConsumers makes the steps of one run of consumer groups. Who joins says "brief" if it would leave out later what has not
// changed.
func generateConsumers(seed uint64) []string {
	rnd := rand.New(rand.NewPCG(seed, 100))
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	one := func(in int) bool { return rnd.IntN(in) == 0 }
	losses, calm := one(2), 1+rnd.IntN(6)
	steps := []string{fmt.Sprintf("init seed=%d delay=0 max=%d interval=%s", seed, 3+rnd.IntN(6), pick("0", "0", "1000")), "topic name=t n=3", "topic name=u n=2"}
	var topics [clients]string
	holding := false
	for len(steps) < runSteps {
		c, group := rnd.IntN(clients), "g"
		if one(12 * calm) {
			group = "h"
		}
		inst := "-"
		if c%2 == 0 {
			inst = fmt.Sprintf("i%d", c)
		}
		member := fmt.Sprintf("m%d", c)
		if one(25 * calm) {
			member = pick("stranger", fmt.Sprintf("m%d", rnd.IntN(clients)))
		} else if c%2 == 0 && one(8*calm) {
			member += "b" // the instance comes back as another
		}
		if topics[c] == "" || one(12) {
			topics[c] = pick("t", "t,u", "u", "t,u")
		}
		k := rnd.IntN(100)
		if holding && one(6) {
			k = 99
		}
		var s string
		switch {
		case k < 60:
			epoch, has := fmt.Sprintf("@%d", c), pick("-", fmt.Sprintf("@%d", c))
			switch rnd.IntN(20 * calm) {
			case 0:
				epoch = "0"
			case 1:
				epoch += pick("+1", "-1")
			case 2:
				epoch = "-1"
			case 3:
				if inst != "-" {
					epoch = "-2"
				}
			}
			s = fmt.Sprintf("beat c=%d group=%s member=%s inst=%s epoch=%s rebalance=%d topics=%s has=%s brief=%s", c, group, member, inst, epoch, 5000+rnd.IntN(40000)|1, topics[c], has, pick("0", "1", "1"))
		case k < 78:
			ms := rnd.IntN(3000)
			if one(4 * calm) {
				ms = rnd.IntN(50_000)
			}
			s = fmt.Sprintf("advance ms=%d", ms)
		case k < 82:
			s = fmt.Sprintf("topic name=%s n=%d", pick("t", "u"), rnd.IntN(6))
		case k < 83:
			s, holding = fmt.Sprintf("restart max=%d", 3+rnd.IntN(6)), false
		case k < 84:
			s = "delete group=" + group
		case k < 89:
			s = fmt.Sprintf("commit group=%s v=9 member=%s inst=%s gen=@%d p=%d offset=%d", group, member, inst, c, rnd.IntN(3), rnd.IntN(1000))
		case k < 91:
			s = fmt.Sprintf("offdel group=%s p=%d", group, rnd.IntN(3))
		case !losses:
			continue
		case !holding:
			s, holding = "hold", true
		default:
			s, holding = pick("release", "lose"), false
		}
		steps = append(steps, s)
		if s == "lose" { // see ruleLost
			steps = append(steps, fmt.Sprintf("restart max=%d", 3+rnd.IntN(6)))
		}
	}
	return append(steps, "release", "advance ms=60000", "advance ms=900000")
}

// request is a step whose clients are known.
type request struct {
	cmd  string
	args map[string]string
}

func (q request) get(name string) *string {
	switch v, ok := q.args[name]; {
	case !ok || v == "-":
		return nil
	case v == "''":
		return new(string)
	default:
		return &v
	}
}

func (q request) text(name string) string {
	if p := q.get(name); p != nil {
		return *p
	}
	return ""
}

func (q request) num(name string) int {
	n, err := strconv.Atoi(q.args[name])
	if err != nil {
		panic(fmt.Sprintf("%s: %s is no number", q.cmd, name))
	}
	return n
}

func (q request) list(name string) []string {
	if p := q.get(name); p != nil {
		return strings.Split(*p, ",")
	}
	return nil
}

// told is what a client knows of itself in a group.
type told struct{ id, gen, has string }

type asker struct {
	group  string
	client int
}

// resolve puts in who is meant. It returns no line if that is a client without an id and the step is of no use without.
func (r *run) resolve(step string) (line string, q request) {
	words := strings.Fields(step)
	q = request{words[0], map[string]string{}}
	asks := asker{client: -1}
	for _, w := range words[1:] {
		if name, v, _ := strings.Cut(w, "="); name == "group" {
			q.args[name] = v
		}
	}
	memberID := func(s string) string {
		kind, rest := s[:1], s[1:]
		n, err := strconv.Atoi(rest)
		switch {
		case err != nil || kind != "@" && kind != "#":
			return s
		case kind == "@":
			s = r.clients[asker{q.args["group"], n}].id
		case n < len(r.ids):
			s = r.ids[n]
		default:
			s = ""
		}
		return s
	}
	for i, w := range words[1:] {
		name, v, _ := strings.Cut(w, "=")
		switch name {
		case "member":
			if v = memberID(v); v == "" {
				if q.cmd == "sync" || q.cmd == "hb" {
					return "", q
				}
				v = "''"
			} else if w[len("member=")] == '@' {
				asks = asker{q.args["group"], int(w[len("member=@")] - '0')}
			}
		case "has":
			if v[0] == '@' {
				v = r.clients[asker{q.args["group"], int(v[1] - '0')}].has
			}
			if v == "" {
				v = "''"
			}
		case "gen", "epoch":
			if v[0] == '@' {
				gen, _ := strconv.Atoi(r.clients[asker{q.args["group"], int(v[1] - '0')}].gen)
				plus, _ := strconv.Atoi(v[2:])
				v = strconv.Itoa(gen + plus)
			}
		case "members", "assign":
			var l []string
			for _, p := range strings.Split(v, ",") {
				cut := strings.IndexAny(p, "/:")
				id := memberID(p[:cut])
				if id == "''" {
					id = ""
				}
				if id != "" || name == "members" {
					l = append(l, id+p[cut:])
				}
			}
			v = strings.Join(l, ",")
		}
		q.args[name] = v
		words[1+i] = name + "=" + v
	}
	if q.cmd == "beat" {
		// What is wrong in itself is refused a floor above, in Kafka.
		switch q.args["epoch"] {
		case "0":
			q.args["has"] = "''"
			if id := "m" + q.args["c"]; !strings.HasPrefix(q.args["member"], id) {
				q.args["member"] = id // two members with one id are none of our business
			}
		default:
			if q.args["brief"] == "1" {
				q.args["topics"], q.args["rebalance"] = "-", "-1"
			}
		}
		for i, w := range words[1:] {
			name, _, _ := strings.Cut(w, "=")
			words[1+i] = name + "=" + q.args[name]
		}
	}
	line = strings.Join(words, " ")
	switch q.cmd {
	case "join", "sync", "hb", "beat", "leave", "delete", "commit", "offdel":
		r.tickets++
		line += fmt.Sprintf(" t=%d", r.tickets)
		q.args["t"] = strconv.Itoa(r.tickets)
		if c, ok := q.args["c"]; ok && (q.cmd == "join" || q.cmd == "beat") {
			asks = asker{q.args["group"], int(c[0] - '0')}
		}
		if asks.client >= 0 {
			r.askers[q.args["t"]] = asks
		}
	}
	return line, q
}

// learn hears what clients are told.
func (r *run) learn(lines []string) {
	for _, l := range lines {
		f := strings.Fields(l)
		if len(f) < 5 || f[1] != "a" {
			continue
		}
		c, asked := r.askers[f[2]]
		if !asked {
			continue
		}
		switch f[3] + f[4] {
		case "join0", "join79":
			r.clients[c] = told{id: f[5], gen: f[6]}
			if !r.known[f[5]] {
				r.known[f[5]] = true
				r.ids = append(r.ids, f[5])
			}
		case "beat0":
			now := told{f[5], f[6], r.clients[c].has}
			if f[8] != "-" {
				now.has = f[8]
			}
			if f[6][0] == '-' {
				now = told{}
			}
			r.clients[c] = now
		case "beat25", "beat110",
			"join25", "sync25", "hb25", "join82", "sync82", "hb82":
			delete(r.clients, c)
		}
	}
}
