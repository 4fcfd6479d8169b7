package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// apiFlags are the words that may follow an API's name, and the fields of api.Info they set.
var apiFlags = map[string]string{"broker": "Broker", "controller": "Controller", "forwarded": "Forwarded", "clusteraction": "ClusterAction"}

// apiTable emits the table of APIs.
func apiTable(apis []*file) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "var table = [...]Info{\n")
	for _, f := range apis {
		q, p := f.messages[0], f.messages[1]
		flex := -1
		if !q.flexible.empty() {
			flex = q.flexible.lo
		}
		fmt.Fprintf(&b, "{Key: wire.%s, Name: %q, Min: %d, Max: %d, FlexibleFrom: %d", goName(f.name), f.name, q.versions.lo, q.versions.hi, flex)
		for _, l := range f.flags {
			fmt.Fprintf(&b, ", %s: true", apiFlags[l])
		}
		if q.unstable {
			b.WriteString(", LatestUnstable: true")
		}
		fmt.Fprintf(&b, ",\nNewRequest: func() wire.Request { return New%s() }, NewResponse: func() wire.Response { return New%s() }},\n", q.goName, p.goName)
	}
	b.WriteString("}\n\n")
	fmt.Fprintf(&b, "// index maps a key to its place in table plus one.\nvar index = [...]uint8{\n")
	for i, f := range apis {
		fmt.Fprintf(&b, "wire.%s: %d,\n", goName(f.name), i+1)
	}
	b.WriteString("}\n")
	return b.Bytes()
}

// apiKeys emits the constants of the API keys and their names.
func apiKeys(apis []*file) []byte {
	var b bytes.Buffer
	b.WriteString("// The API keys.\nconst (\n")
	for _, f := range apis {
		fmt.Fprintf(&b, "%s APIKey = %d\n", goName(f.name), f.key)
	}
	b.WriteString(")\n\nvar apiNames = [...]string{\n")
	for _, f := range apis {
		fmt.Fprintf(&b, "%s: %q,\n", goName(f.name), f.name)
	}
	b.WriteString("}\n")
	return b.Bytes()
}

// errorCodes reads lines of "number NAME retriable|final message" and emits constants and the table.
func errorCodes(path string) ([]byte, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var consts, table bytes.Buffer
	s := bufio.NewScanner(in)
	next, last := -1, ""
	for s.Scan() {
		if s.Text() == "" || s.Text()[0] == '#' {
			continue
		}
		w := strings.SplitN(s.Text(), " ", 4)
		if len(w) < 3 || w[0] != strconv.Itoa(next) {
			return nil, fmt.Errorf("%s: want error %d, got %q", path, next, s.Text())
		}
		next++
		last = "Err" + camel(w[1])
		message := ""
		if len(w) == 4 {
			message = w[3]
		}
		fmt.Fprintf(&consts, "%s ErrorCode = %s\n", last, w[0])
		fmt.Fprintf(&table, "{%q, %q, %t},\n", w[1], message, w[2] == "retriable")
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "// The error codes.\nconst (\n%s\nlastErrorCode = %s\n)\n\n", consts.Bytes(), last)
	fmt.Fprintf(&b, "// errorTable is indexed by code + 1.\nvar errorTable = [...]errorInfo{\n%s}\n", table.Bytes())
	return b.Bytes(), nil
}

func camel(s string) string {
	var b strings.Builder
	for _, w := range strings.Split(s, "_") {
		if w == "ID" {
			b.WriteString(w)
			continue
		}
		b.WriteString(w[:1] + strings.ToLower(w[1:]))
	}
	return b.String()
}

// recordTable emits the constructors of records by type.
func recordTable(schemas []*file) []byte {
	var b bytes.Buffer
	kinds := []struct{ kind, typ string }{{"metadata", "MetadataRecord"}, {"tier", "TierRecord"}}
	for _, k := range kinds {
		fmt.Fprintf(&b, "// new%s returns an empty record of a type, nil for a type unknown here.\nfunc new%s(recordType int16) %s {\nswitch recordType {\n", k.typ, k.typ, k.typ)
		for _, f := range byKey(schemas, k.kind) {
			fmt.Fprintf(&b, "case %d:\nreturn new(%s)\n", f.key, f.messages[0].goName)
		}
		b.WriteString("}\nreturn nil\n}\n\n")
	}
	for _, kind := range []string{"group", "txn", "share"} {
		name := strings.ToUpper(kind[:1]) + kind[1:]
		fmt.Fprintf(&b, "// new%sRecord returns an empty key and value of a record type, nils for a type unknown here.\nfunc new%sRecord(recordType int16) (Key, Value) {\nswitch recordType {\n", name, name)
		for _, f := range byKey(schemas, kind) {
			fmt.Fprintf(&b, "case %d:\nreturn new(%s), new(%s)\n", f.key, f.messages[0].goName, f.messages[1].goName)
		}
		b.WriteString("}\nreturn nil, nil\n}\n\n")
	}
	b.WriteString("// forms lists the messages with their versions and the first flexible one, -1 for none.\nvar forms = [...]Form{\n")
	for _, f := range schemas {
		if f.kind == "api" || f.kind == "header" {
			continue
		}
		for _, m := range f.messages {
			flexible := -1
			if !m.flexible.empty() {
				flexible = m.flexible.lo
			}
			fmt.Fprintf(&b, "{%q, %d, %d, %d, func() wire.Message { return New%s() }},\n", m.name, m.versions.lo, m.versions.hi, flexible, m.goName)
		}
	}
	b.WriteString("}\n")
	return b.Bytes()
}

func byKey(schemas []*file, kind string) []*file {
	list := slices.DeleteFunc(slices.Clone(schemas), func(f *file) bool { return f.kind != kind })
	slices.SortFunc(list, func(a, b *file) int { return a.key - b.key })
	return list
}
