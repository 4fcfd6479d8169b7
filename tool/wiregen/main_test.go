package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUpToDate checks that the generated files are what the schemas say, neither more nor less.
func TestUpToDate(t *testing.T) {
	root := filepath.Join("..", "..")
	files, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if have, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(have) != string(want) {
			t.Errorf("%s is out of date: run go run ./tool/wiregen (%v)", name, err)
		}
	}
	for _, dir := range []string{wireDir, apiDir, recDir} {
		list, _ := filepath.Glob(filepath.Join(root, dir, "zz_*.go"))
		for _, path := range list {
			if rel, _ := filepath.Rel(root, path); files[filepath.ToSlash(rel)] == nil {
				t.Errorf("no schema accounts for %s", rel)
			}
		}
	}
}

func TestSchemaErrors(t *testing.T) {
	for text, want := range map[string]string{
		"nonsense\n":                             "unknown kind",
		"api\n":                                  "no key",
		"data\n":                                 "no message",
		"data\nmessage A 0\n":                    "not a message line",
		"data\nmessage A 1-0 flexible=0+":        "version range",
		"data\nmessage A 0 flexible=none\n  F\n": "needs a type",
		"data\nmessage A 0 flexible=none\n  F int99\n":                        "unknown type",
		"data\nmessage A 0 flexible=none\n  F int8 1+\n":                      "in no version",
		"data\nmessage A 0-1 flexible=1+\n  F int8 tag=0\n":                   "not flexible",
		"data\nmessage A 0 flexible=0+\n  F int8 tag=x\n":                     "invalid syntax",
		"data\nmessage A 0 flexible=0+\n      F int8\n":                       "indented too far",
		"data\nmessage A 0 flexible=0+\n  F int8 default=0 nonsense=1 what\n": "version range",
	} {
		path := filepath.Join(t.TempDir(), "a.txt")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readFile(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{"TopicId": "TopicID", "Ids": "IDs", "ProducerIdsRecord": "ProducerIDsRecord", "Idle": "Idle", "KRaftVersion": "KRaftVersion", "Id": "ID"} {
		if got := goName(in); got != want {
			t.Errorf("%s became %s", in, got)
		}
	}
	for in, want := range map[string]string{"Topics": "Topic", "Entries": "Entry", "Batches": "Batch", "Status": "Status", "Responses": "Response", "Data": "Data"} {
		if got := singular(in); got != want {
			t.Errorf("%s became %s", in, got)
		}
	}
}
