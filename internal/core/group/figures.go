package group

// Figure is something that Kafka counts in the group coordinator (GroupCoordinatorMetrics).
type Figure int8

// The figures.
const (
	CommittedOffsets    Figure = iota // offsets that requests have committed, in transactions or not
	ExpiredOffsets                    // offsets that had their time
	DeletedOffsets                    // offsets that OffsetDelete has removed
	CompletedRebalances               // generations of classic groups that got their assignment
	ConsumerRebalances                // new epochs of consumer groups, but for members that left
	Figures             = iota        // how many there are
)

func (s *Shard) count(what Figure, n int) {
	if s.cfg.Count != nil && n > 0 {
		s.cfg.Count(what, n)
	}
}

// Counts is how many groups a shard has, by type and state as ListGroups spells them, and how many offsets.
type Counts struct {
	Groups  map[[2]string]int // by type and state
	Offsets int
}

// Add adds what the shard has, as it works.
func (s *Shard) Add(c *Counts) {
	for _, e := range s.groups {
		typ, state := e.describe()
		c.Groups[[2]string{typ, state}]++
	}
	for _, g := range s.offsets {
		for _, t := range g.topics {
			c.Offsets += len(t.list)
		}
	}
}

// describe returns the type and the state of a group.
func (e *entry) describe() (typ, state string) {
	switch {
	case e.classic != nil:
		return "classic", e.classic.state.String()
	case e.consumer != nil:
		return kindConsumer.String(), e.consumer.state()
	case e.empty():
		return e.modern.kind.String(), Empty.String()
	}
	return e.modern.kind.String(), Stable.String()
}
