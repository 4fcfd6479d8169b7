package main

import (
	"os"
	"testing"
)

func TestNoDiff(t *testing.T) {
	page, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != render() {
		t.Error("docs/config.md is not what the tables say; run: go run ./tool/confdoc > docs/config.md")
	}
}
