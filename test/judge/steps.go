package judge

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/test/judge/pair"
)

// A step is a pair.Request in which it stays open who is meant until the step is run, so that steps before it can be taken out: "@2" is the
// id that client 2 was told last, "#3" the fourth id that anybody was told, "gen=@2+1" the generation of client 2 and one more. "goes" is
// join, sync or hb, whichever the client has to ask for now. "sub1/t+u/@2" is the subscription in its version 1 of who reads t and u and
// has what client 2 was told, "part1/t-0+u-1" an assignment: see embedded bytes.

const clients = 5

// runSteps is how long a run is, without its end.
const runSteps = 150

// told is what a client knows of itself in a group.
type told struct {
	id, gen, has string
	next         string // what a classic client asks for next; empty: join
}

type asker struct {
	group  string
	client int
}

// resolve puts in who is meant. It returns no line if that is a client without an id and the step is of no use without.
func (r *run) resolve(step string) (line string, q pair.Request) {
	words := strings.Fields(step)
	if words[0] == "goes" { // the client does what is next
		words[0] = "join"
		if next := r.clients[asker{words[2][len("group="):], int(words[1][len("c=")] - '0')}].next; next != "" {
			words[0] = next
		}
	}
	q = pair.Request{Cmd: words[0], Args: map[string]string{}}
	asks, own := asker{client: -1}, false
	for _, w := range words[1:] {
		if name, v, _ := strings.Cut(w, "="); name == "group" || name == "c" {
			q.Args[name] = v
		}
	}
	memberID := func(s string) string {
		kind, rest := s[:1], s[1:]
		n, err := strconv.Atoi(rest)
		switch {
		case err != nil || kind != "@" && kind != "#":
			return s
		case kind == "@":
			s = r.clients[asker{q.Args["group"], n}].id
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
				if q.Cmd == "sync" || q.Cmd == "hb" {
					return "", q
				}
				v = "''"
			} else if w[len("member=")] == '@' {
				own = w[len("member=@"):] == q.Args["c"]
				asks = asker{q.Args["group"], int(w[len("member=@")] - '0')}
			}
		case "has":
			if v[0] == '@' {
				v = r.clients[asker{q.Args["group"], int(v[1] - '0')}].has
			}
			if v == "" {
				v = "''"
			}
		case "gen", "epoch":
			if v[0] == '@' {
				gen, _ := strconv.Atoi(r.clients[asker{q.Args["group"], int(v[1] - '0')}].gen)
				plus, _ := strconv.Atoi(v[2:])
				if v = strconv.Itoa(gen + plus); name == "epoch" && gen+plus < 0 {
					v = "0"
				}
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
			if v == "" {
				v = "-"
			}
			if name == "assign" {
				v = r.encode(q.Args["group"], v)
			}
		case "protos":
			v = r.encode(q.Args["group"], v)
		}
		q.Args[name] = v
		words[1+i] = name + "=" + v
	}
	if q.Cmd == "beat" {
		// What is wrong in itself is refused a floor above, in Kafka.
		switch q.Args["epoch"] {
		case "0":
			q.Args["has"] = "''"
			if id := "m" + q.Args["c"]; !strings.HasPrefix(q.Args["member"], id) && !own || q.Args["member"] == "''" {
				q.Args["member"] = id // two members with one id are none of our business
			}
		default:
			if q.Args["member"] == "''" {
				q.Args["member"] = "m" + q.Args["c"]
			}
			if q.Args["brief"] == "1" {
				q.Args["topics"], q.Args["regex"], q.Args["rebalance"] = "-", "-", "-1"
			}
		}
		for i, w := range words[1:] {
			name, _, _ := strings.Cut(w, "=")
			words[1+i] = name + "=" + q.Args[name]
		}
	}
	line = strings.Join(words, " ")
	switch q.Cmd {
	case "join", "sync", "hb", "beat", "leave", "delete", "commit", "offdel":
		r.tickets++
		line += fmt.Sprintf(" t=%d", r.tickets)
		q.Args["t"] = strconv.Itoa(r.tickets)
		if c, ok := q.Args["c"]; ok && (q.Cmd == "join" || q.Cmd == "beat") {
			asks = asker{q.Args["group"], int(c[0] - '0')}
		}
		if asks.client >= 0 {
			r.askers[q.Args["t"]] = asks
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
			now := told{id: f[5], gen: f[6], has: r.clients[c].has}
			if f[4] == "0" {
				now.next = "sync"
			}
			r.clients[c] = now
			if !r.known[f[5]] {
				r.known[f[5]] = true
				r.ids = append(r.ids, f[5])
			}
		case "beat0":
			now := told{id: f[5], gen: f[6], has: r.clients[c].has}
			if f[8] != "-" {
				now.has = f[8]
			}
			if f[6][0] == '-' {
				now = told{}
			}
			r.clients[c] = now
		case "sync0":
			now := r.clients[c]
			if has, ok := partitionsOf(f[len(f)-1]); ok {
				now.has = has
			}
			now.next = "hb"
			r.clients[c] = now
		case "hb22", "hb27", "sync22", "sync27":
			now := r.clients[c]
			now.next = ""
			r.clients[c] = now
		case "beat25", "beat69", "beat110",
			"join25", "sync25", "hb25", "join82", "sync82", "hb82":
			delete(r.clients, c)
		}
	}
}
