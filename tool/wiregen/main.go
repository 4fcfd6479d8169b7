package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Where things are, relative to the root of the module.
const (
	schemaDir = "internal/wire/schema"
	wireDir   = "internal/wire"
	apiDir    = "internal/wire/api"
	recDir    = "internal/wire/logrec"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "wiregen:", err)
		os.Exit(1)
	}
}

// run generates everything below root and removes generated files that no schema accounts for any more.
func run(root string) error {
	files, err := generate(root)
	if err != nil {
		return err
	}
	for _, dir := range []string{wireDir, apiDir, recDir} {
		old, err := filepath.Glob(filepath.Join(root, dir, "zz_*.go"))
		if err != nil {
			return err
		}
		for _, path := range old {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			if _, keep := files[filepath.ToSlash(rel)]; !keep {
				if err := os.Remove(path); err != nil {
					return err
				}
			}
		}
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, text) {
			continue // keeps the build cache warm
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the generated files by their slash-separated path.
func generate(root string) (map[string][]byte, error) {
	schemas, err := readSchemas(filepath.Join(root, schemaDir))
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	add := func(path, pkg string, body []byte) error {
		text, err := source(pkg, body)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		out[path] = text
		return nil
	}
	var headers, data bytes.Buffer
	perKind := map[string]*bytes.Buffer{"header": &headers, "data": &data, "tier": {}, "metadata": {}, "group": {}, "txn": {}, "share": {}}
	for _, f := range schemas {
		body := perKind[f.kind]
		if f.kind == "api" {
			body = new(bytes.Buffer)
		}
		for _, m := range f.messages {
			if err := emitMessage(body, f, m); err != nil {
				return nil, fmt.Errorf("%s: %w", m.name, err)
			}
		}
		if f.kind == "api" {
			if err := add(fmt.Sprintf("%s/zz_%02d_%s.go", apiDir, f.key, snake(f.name)), "api", body.Bytes()); err != nil {
				return nil, err
			}
		}
	}
	for kind, body := range perKind {
		dir, pkg := recDir, "logrec"
		if kind == "header" {
			dir, pkg = wireDir, "wire"
		}
		if err := add(fmt.Sprintf("%s/zz_%s.go", dir, kind), pkg, body.Bytes()); err != nil {
			return nil, err
		}
	}
	apis := slices.DeleteFunc(slices.Clone(schemas), func(f *file) bool { return f.kind != "api" })
	slices.SortFunc(apis, func(a, b *file) int { return a.key - b.key })
	if err := add(apiDir+"/zz_table.go", "api", apiTable(apis)); err != nil {
		return nil, err
	}
	if err := add(wireDir+"/zz_apikey.go", "wire", apiKeys(apis)); err != nil {
		return nil, err
	}
	codes, err := errorCodes(filepath.Join(root, schemaDir, "errors.txt"))
	if err != nil {
		return nil, err
	}
	if err := add(wireDir+"/zz_errorcode.go", "wire", codes); err != nil {
		return nil, err
	}
	return out, add(recDir+"/zz_table.go", "logrec", recordTable(schemas))
}

func emitMessage(body *bytes.Buffer, f *file, m *message) error {
	e := &emitter{m: m, q: "wire."}
	if f.kind == "header" {
		e.q = ""
	}
	flexible := "never flexible"
	if !m.flexible.empty() {
		flexible = fmt.Sprintf("flexible from %d", m.flexible.lo)
	}
	versions := fmt.Sprintf("version %d", m.versions.lo)
	if m.versions.hi > m.versions.lo {
		versions = fmt.Sprintf("versions %d-%d", m.versions.lo, m.versions.hi)
	}
	what := map[string]string{
		"api": "belongs to API key %d", "metadata": "is metadata record type %d", "group": "belongs to group record type %d",
		"txn": "belongs to transaction record type %d", "share": "belongs to share state record type %d", "tier": "is remote log metadata record type %d",
	}[f.kind]
	if what == "" {
		what = "is a wire struct"
	} else {
		what = fmt.Sprintf(what, f.key)
	}
	if err := e.message(fmt.Sprintf("%s: %s, %s.", what, versions, flexible)); err != nil {
		return err
	}
	switch f.kind {
	case "api":
		e.p("// APIKey returns the key of the API.\nfunc (*%s) APIKey() wire.APIKey { return wire.%s }\n", m.goName, goName(f.name))
	case "metadata", "group", "txn", "share", "tier":
		e.p("// RecordType returns %d.\nfunc (*%s) RecordType() int16 { return %d }\n", f.key, m.goName, f.key)
	}
	body.Write(e.Bytes())
	return nil
}

func snake(s string) string {
	var b strings.Builder
	for i, c := range s {
		if i > 0 && c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(c)
	}
	return strings.ToLower(b.String())
}
