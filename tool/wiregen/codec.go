package main

import (
	"fmt"
	"slices"
	"strings"
)

// accessor names the Reader and Writer method of a scalar type or of an array of it.
func accessor(f *field) string {
	name := map[string]string{
		"bool": "Bool", "int8": "Int8", "int16": "Int16", "uint16": "Uint16", "int32": "Int32", "uint32": "Uint32", "int64": "Int64",
		"float64": "Float64", "uuid": "UUID", "string": "String", "bytes": "Bytes", "records": "Records",
	}[f.typ]
	switch {
	case f.array && f.typ == "bytes":
		return "ByteSlices"
	case f.array:
		return name + "s"
	}
	return name
}

// decode emits the struct's decoder.
func (e *emitter) decode(s *strct, root bool) error {
	method := "decode"
	if root {
		method = "Decode"
		e.p("// Decode implements %sMessage.", e.q)
	}
	e.p("func (x *%s) %s(r *%sReader, version int16) {", s.goName, method, e.q)
	if root {
		e.p("if !r.CheckVersion(%q, version, %d, %d) {\nreturn\n}", s.goName, s.versions.lo, s.versions.hi)
	}
	e.reset(s)
	if e.flexStruct(s) == "flex" {
		e.p("flex := %s", boolean(e.m.flexible, s.versions))
	}
	open := ""
	for _, f := range s.fields {
		plain := f.plain()
		if plain.empty() {
			continue
		}
		c := cond(plain, s.versions)
		open = e.enter(open, c)
		e.read(s, f, plain, false)
		// A default that is allocated is set only where it is needed.
		if c != "" && f.pointer() && e.initial(f) != "" {
			e.p("} else {\nif !r.Charge(64) {\nreturn\n}\nx.%s = %s\n}", f.goName, e.initial(f))
			open = ""
		}
	}
	e.enter(open, "")
	if err := e.readTags(s); err != nil {
		return err
	}
	e.p("}\n")
	return nil
}

// plain returns the versions at which the field is there and not tagged: those below its tagged ones, for Kafka has no field
// that stops being tagged.
func (f *field) plain() span {
	v := f.versions
	if !f.tagged.empty() {
		v.hi = f.tagged.lo - 1
	}
	return v
}

// enter closes the open if statement unless it has the same condition, and opens one with the new condition unless that is
// empty. It returns what is open afterwards.
func (e *emitter) enter(open, condition string) string {
	if open == condition {
		return open
	}
	if open != "" {
		e.p("}")
	}
	if condition != "" {
		e.p("if %s {", condition)
	}
	return condition
}

// reset emits the assignment of the struct's defaults, without those that need an allocation.
func (e *emitter) reset(s *strct) {
	var parts []string
	for _, f := range s.fields {
		if v := e.initial(f); v != "" && !f.pointer() {
			parts = append(parts, f.goName+": "+v)
		}
	}
	e.p("*x = %s{%s}", s.goName, strings.Join(parts, ", "))
	for _, f := range s.fields {
		if v := e.initial(f); v != "" && f.pointer() && f.versions == f.tagged {
			e.p("if !r.Charge(64) {\nreturn\n}\nx.%s = %s", f.goName, v)
		}
	}
}

// read emits the reading of one field at versions have, all of them tagged or none.
func (e *emitter) read(s *strct, f *field, have span, tagged bool) {
	flex, null := e.flex(s, f), boolean(f.null, have)
	if tagged {
		flex = "true"
	}
	x := "x." + f.goName
	switch {
	case f.typ == "struct" && f.array:
		e.p("if n := r.ArrayLen(%s, %s, %s, unsafe.Sizeof(%s{})); n >= 0 {", flex, null, e.leastOf(f.ref, have), f.ref.goName)
		e.p("%s = make([]%s, n)", x, f.ref.goName)
		e.p("for i := range %s {\nif %s[i].decode(r, version); r.Failed() {\nreturn\n}\n}", x, x)
		if e.initial(f) != "" || tagged && null != "false" { // a later null replaces the default, or an earlier value
			e.p("} else {\n%s = nil", x)
		}
		e.p("}")
	case f.typ == "struct" && f.pointer():
		name := "NullStruct"
		if tagged {
			name = "NullTagStruct"
		}
		present := fmt.Sprintf("r.%s(unsafe.Sizeof(%s{}))", name, f.ref.goName)
		switch null {
		case "false":
			present = fmt.Sprintf("r.Charge(int(unsafe.Sizeof(%s{})))", f.ref.goName)
		case "true":
		default:
			panic(s.goName + "." + f.name + ": a struct nullable at some versions only")
		}
		e.p("if %s = nil; %s {\n%s = new(%s)\n%s.decode(r, version)\n}", x, present, x, f.ref.goName, x)
	case f.typ == "struct":
		e.p("%s.decode(r, version)", x)
	case f.array || f.typ == "bytes" || f.typ == "records":
		e.p("%s = r.%s(%s, %s)", x, accessor(f), flex, null)
	case f.typ == "string" && f.pointer():
		e.p("%s = r.NullString(%s, %s)", x, flex, null)
	case f.typ == "string":
		e.p("%s = r.String(%s)", x, flex)
	case strings.HasSuffix(e.goType(f), "ErrorCode"):
		e.p("%s = %sErrorCode(r.Int16())", x, e.q)
	default:
		e.p("%s = r.%s()", x, accessor(f))
	}
}

// readTags emits the reading of the tagged fields.
func (e *emitter) readTags(s *strct) error {
	flex := e.flexStruct(s)
	if flex == "false" {
		return nil
	}
	if flex == "flex" {
		e.p("if flex {")
	}
	tags := s.tagged()
	if len(tags) == 0 {
		e.p("r.Tags(&x.UnknownTags)")
	} else {
		e.p("for n := r.TagCount(); n > 0 && !r.Failed(); n-- {\ntag, size := r.Tag()\nswitch tag {")
		for i, f := range tags {
			if f.tag != i {
				return fmt.Errorf("%s: tags are not 0..n, unknown tags could not be put in order", s.goName)
			}
			e.p("case %d:", f.tag)
			if c := cond(f.tagged, e.m.flexible.and(s.versions)); c != "" {
				e.p("if !(%s) {\nr.BadTag(tag, version)\nreturn\n}", c)
			}
			e.read(s, f, f.tagged, true)
		}
		e.p("default:\nr.UnknownTag(&x.UnknownTags, tag, size)\n}\n}")
	}
	if flex == "flex" {
		e.p("}")
	}
	return nil
}

// tagged returns the fields that are tagged at some version, by tag.
func (s *strct) tagged() []*field {
	var list []*field
	for _, f := range s.fields {
		if !f.tagged.empty() {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *field) int { return a.tag - b.tag })
	return list
}

// encode emits the struct's encoder.
func (e *emitter) encode(s *strct, root bool) error {
	method := "encode"
	if root {
		method = "Encode"
		e.p("// Encode implements %sMessage.", e.q)
	}
	e.p("func (x *%s) %s(w *%sWriter, version int16) {", s.goName, method, e.q)
	if root {
		e.p("if !w.CheckVersion(%q, version, %d, %d) {\nreturn\n}", s.goName, s.versions.lo, s.versions.hi)
	}
	if e.flexStruct(s) == "flex" {
		e.p("flex := %s", boolean(e.m.flexible, s.versions))
	}
	open := ""
	for _, f := range s.fields {
		if plain := f.plain(); !plain.empty() {
			open = e.enter(open, cond(plain, s.versions))
			e.write(s, f, plain, false)
		}
	}
	e.enter(open, "")
	if err := e.writeTags(s); err != nil {
		return err
	}
	e.p("}\n")
	return nil
}

// write emits the writing of one field at versions have.
func (e *emitter) write(s *strct, f *field, have span, tagged bool) {
	flex, null := e.flex(s, f), boolean(f.null, have)
	if tagged {
		flex = "true"
	}
	x := "x." + f.goName
	switch {
	case f.typ == "struct" && f.array:
		e.p("w.ArrayLen(%s, %s, %s == nil, len(%s))", flex, null, x, x)
		e.p("for i := range %s {\n%s[i].encode(w, version)\n}", x, x)
	case f.typ == "struct" && f.pointer() && tagged:
		e.p("if %s != nil {\nw.Uvarint(1)\n%s.encode(w, version)\n} else {\nw.Uvarint(0)\n}", x, x)
	case f.typ == "struct" && f.pointer():
		e.p("if w.NullStruct(%s != nil); %s != nil {\n%s.encode(w, version)\n}", x, x, x)
	case f.typ == "struct":
		e.p("%s.encode(w, version)", x)
	case f.array || f.typ == "bytes" || f.typ == "records":
		e.p("w.%s(%s, %s, %s)", accessor(f), flex, null, x)
	case f.typ == "string" && f.pointer():
		e.p("w.NullString(%s, %s, %s)", flex, null, x)
	case f.typ == "string":
		e.p("w.String(%s, %s)", flex, x)
	case strings.HasSuffix(e.goType(f), "ErrorCode"):
		e.p("w.Int16(int16(%s))", x)
	default:
		e.p("w.%s(%s)", accessor(f), x)
	}
}

// differs returns the Go condition "the field is not at its default".
func (e *emitter) differs(s *strct, f *field) (string, error) {
	x := "x." + f.goName
	nullable := !f.null.empty()
	switch {
	case f.array || f.typ == "bytes":
		switch {
		case f.def == "null":
			return x + " != nil", nil
		case nullable:
			return fmt.Sprintf("%s == nil || len(%s) > 0", x, x), nil
		}
		return fmt.Sprintf("len(%s) > 0", x), nil
	case f.pointer() && f.def == "null":
		return x + " != nil", nil
	case f.typ == "string" && f.pointer():
		return fmt.Sprintf("%s == nil || *%s != %q", x, x, f.def), nil
	case f.typ == "string":
		return fmt.Sprintf("%s != %q", x, f.def), nil
	case f.typ == "struct":
		lit := f.ref.literal(e)
		for _, g := range f.ref.fields {
			if g.array || g.pointer() || g.typ == "bytes" || g.typ == "records" {
				if f.pointer() {
					return f.ref.differsDeep(e, x)
				}
				return "", fmt.Errorf("%s.%s: cannot compare with the default", s.goName, f.name)
			}
		}
		if f.pointer() {
			return fmt.Sprintf("%s == nil || *%s != (%s)", x, x, lit), nil
		}
		return fmt.Sprintf("%s != (%s)", x, lit), nil
	case f.typ == "bool" && f.def == "true":
		return "!" + x, nil
	case f.typ == "bool":
		return x, nil
	case f.typ == "uuid":
		return x + " != (id.UUID{})", nil
	case f.typ == "records":
		return "!" + x + ".IsNull()", nil
	}
	def := f.def
	if def == "" {
		def = "0"
	}
	return x + " != " + def, nil
}

// differsDeep is differs for a nullable struct whose fields Go cannot compare at once.
func (s *strct) differsDeep(e *emitter, x string) (string, error) {
	terms := []string{x + " == nil", x + ".UnknownTags != nil"}
	for _, g := range s.fields {
		t, err := e.differs(s, g)
		if err != nil {
			return "", err
		}
		terms = append(terms, strings.ReplaceAll(t, "x."+g.goName, x+"."+g.goName))
	}
	return strings.Join(terms, " || "), nil
}

// writeTags emits the writing of the tagged fields.
func (e *emitter) writeTags(s *strct) error {
	flex := e.flexStruct(s)
	if flex == "false" {
		return nil
	}
	if flex == "flex" {
		e.p("if flex {")
	}
	tags := s.tagged()
	if len(tags) == 0 {
		e.p("w.Tags(x.UnknownTags)")
	} else {
		e.p("t := w.BeginTags()")
		for _, f := range tags {
			c, err := e.differs(s, f)
			if err != nil {
				return err
			}
			if v := cond(f.tagged, e.m.flexible.and(s.versions)); v != "" {
				if strings.Contains(c, "||") {
					c = "(" + c + ")"
				}
				c = v + " && " + c
			}
			e.p("if %s {\nw.BeginTag(&t, %d)", c, f.tag)
			e.write(s, f, f.tagged, true)
			e.p("w.EndTag(&t)\n}")
		}
		e.p("w.EndTags(&t, x.UnknownTags)")
	}
	if flex == "flex" {
		e.p("}")
	}
	return nil
}

// smallest returns the least number of bytes the struct takes at a version.
func (e *emitter) smallest(s *strct, v int) int {
	n := 0
	for _, f := range s.fields {
		if !f.versions.has(v) || f.tagged.has(v) {
			continue
		}
		flex := e.m.flexible.has(v) && !f.rigid
		switch {
		case f.array || f.typ == "bytes" || f.typ == "records":
			n += pick(flex, 1, 4)
		case f.typ == "string":
			n += pick(flex, 1, 2)
		case f.typ == "struct" && f.null.has(v):
			n++
		case f.typ == "struct":
			n += e.smallest(f.ref, v)
		default:
			n += map[string]int{"bool": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "float64": 8, "uuid": 16}[f.typ]
		}
	}
	return n + pick(e.m.flexible.has(v), 1, 0)
}

func pick(c bool, a, b int) int {
	if c {
		return a
	}
	return b
}

// leastOf returns a Go expression for the struct's least size at the versions have.
func (e *emitter) leastOf(s *strct, have span) string {
	have = have.and(s.versions)
	n := e.smallest(s, have.lo)
	for v := have.lo; v <= have.hi; v++ {
		if e.smallest(s, v) != n {
			return "least" + s.goName + "(version)"
		}
	}
	return fmt.Sprint(n)
}

// least emits the function that leastOf refers to.
func (e *emitter) least(s *strct) {
	if !e.varies(s) {
		return
	}
	e.p("func least%s(version int16) int {\nswitch {", s.goName)
	v := s.versions
	n := e.smallest(s, v.hi)
	for at := v.hi; at >= v.lo; at-- {
		if k := e.smallest(s, at); k != n {
			e.p("case version >= %d:\nreturn %d", at+1, n)
			n = k
		}
	}
	e.p("}\nreturn %d\n}\n", n)
}

// varies reports whether some array of s needs its least size computed from the version.
func (e *emitter) varies(s *strct) bool {
	for _, t := range e.m.structs() {
		for _, f := range t.fields {
			if f.ref == s && f.array {
				if strings.HasPrefix(e.leastOf(s, f.versions), "least") {
					return true
				}
			}
		}
	}
	return false
}
