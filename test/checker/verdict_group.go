package checker

import "slices"

// groups: a reading of a committed offset returns a commit that nothing acknowledged has surely replaced (G1).
func (a *analysis) groups() {
	type lane struct{ group, key string }
	type write struct {
		op     *Op
		offset int64
		end    int64
		sure   bool
	}
	writes := map[lane][]write{}
	for _, op := range a.of(Commit, Txn) {
		if op.Group == "" || a.undone(op) {
			continue
		}
		for key, o := range op.Offsets {
			writes[lane{op.Group, key}] = append(writes[lane{op.Group, key}], write{op, o, op.end(), op.Type == OK})
		}
	}
	for _, op := range a.of(Committed) {
		if op.Type != OK {
			continue
		}
		for key, got := range op.Offsets {
			a.judge("G1", 1)
			var newest *write // the acknowledged commit with the latest begin among those that ended before the reading
			possible := false
			all := writes[lane{op.Group, key}]
			for i := range all {
				if w := &all[i]; w.sure && w.end < op.Start && (newest == nil || w.op.Start > newest.op.Start) {
					newest = w
				}
			}
			for i := range all {
				w := &all[i]
				if w.offset == got && w.op.Start < op.End && (newest == nil || w == newest || w.end >= newest.op.Start) {
					possible = true
					break
				}
			}
			if newest == nil && got == -1 || possible {
				continue
			}
			ops := []*Op{op}
			text := "nothing was acknowledged"
			if newest != nil {
				ops = []*Op{newest.op, op}
				text = "another was acknowledged last"
			}
			a.bad("G1", ops, "group %s has offset %d committed for %s; %s", op.Group, got, key, text)
		}
	}
}

// ownership: in one generation a partition has one owner, and no commit of an old generation is taken (G2). Members of a group that
// is served have epochs of their own: there no commit is taken of whom another has followed as the partition's owner.
func (a *analysis) ownership() {
	type lane struct {
		group, key string
		generation int32
	}
	owner := map[lane]*Op{}
	began := map[string][]*Op{} // by group
	for _, op := range a.of(Assigned) {
		began[op.Group] = append(began[op.Group], op)
		for _, key := range op.Owned {
			l := lane{op.Group, key, op.Generation}
			a.judge("G2", 1)
			if had := owner[l]; had != nil && had.Member != op.Member && (op.Instance == "" || had.Instance != op.Instance) {
				a.bad("G2", []*Op{had, op}, "%s of group %s belongs to two members in generation %d", key, op.Group, op.Generation)
			}
			owner[l] = op
		}
	}
	for _, op := range a.of(Commit) {
		if op.Type != OK || op.Generation < 0 || op.Member == "" {
			continue
		}
		if op.Served {
			for key := range op.Offsets {
				if by := followed(began[op.Group], op, key); by != nil {
					a.bad("G2", []*Op{by, op}, "%s committed %s, which was %s's", op.Member, key, by.Member)
				}
			}
			continue
		}
		i := slices.IndexFunc(began[op.Group], func(as *Op) bool { return as.Generation > op.Generation && as.Start < op.Start })
		if i >= 0 {
			a.bad("G2", []*Op{began[op.Group][i], op}, "a commit of generation %d was taken in generation %d", op.Generation, began[op.Group][i].Generation)
		}
	}
}

// followed is the last assignment of a key before a commit began, if that was to another member.
func followed(began []*Op, commit *Op, key string) (by *Op) {
	for _, op := range began {
		if op.Start < commit.Start && slices.Contains(op.Owned, key) {
			by = op
		}
	}
	if by != nil && by.Member == commit.Member {
		return nil
	}
	return by
}
