package api_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestTableMatchesKafka holds the table against the list of APIs in the reference, row by row.
func TestTableMatchesKafka(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "shared", "reference", "kafka-surface.md"))
	if err != nil {
		t.Skip("no reference here")
	}
	_, section, _ := strings.Cut(string(text), "\n## 2. API keys")
	section, _, _ = strings.Cut(section, "\n## 3.")
	row := regexp.MustCompile(`\| (\d+) \| (\w+) \| ([\d-]+) \| (\d+\+|—) \| (B?C?) \|([^|]*)`)
	seen := 0
	for _, m := range row.FindAllStringSubmatch(section, -1) {
		key, _ := strconv.Atoi(m[1])
		i, ok := api.Lookup(wire.APIKey(key))
		if !ok || i.Name != m[2] || int(i.Key) != key {
			t.Errorf("%v: found %v", m, i)
			continue
		}
		seen++
		lo, hi, ranged := strings.Cut(m[3], "-")
		if !ranged {
			hi = lo
		}
		if strconv.Itoa(int(i.Min)) != lo || strconv.Itoa(int(i.Max)) != hi {
			t.Errorf("%s has versions %s, not %d-%d", i.Name, m[3], i.Min, i.Max)
		}
		flexible := strconv.Itoa(int(i.FlexibleFrom)) + "+"
		if i.FlexibleFrom < 0 {
			flexible = "—"
		}
		// The reference gives the version from which an API is flexible even when that is below the versions there are.
		if flexible != m[4] {
			if from, _ := strconv.Atoi(strings.TrimSuffix(m[4], "+")); m[4] == "—" || from > int(i.Min) || i.FlexibleFrom != i.Min {
				t.Errorf("%s is flexible %s, not %s", i.Name, m[4], flexible)
			}
		}
		if i.Broker != strings.Contains(m[5], "B") || i.Controller != strings.Contains(m[5], "C") {
			t.Errorf("%s is on %s, not broker %t controller %t", i.Name, m[5], i.Broker, i.Controller)
		}
		if i.Forwarded != strings.Contains(m[6], "F") || i.ClusterAction != strings.Contains(m[6], "A") {
			t.Errorf("%s: %s, not forwarded %t cluster action %t", i.Name, m[6], i.Forwarded, i.ClusterAction)
		}
		if i.LatestUnstable != strings.Contains(m[6], "U") {
			t.Errorf("%s: unstable %t", i.Name, i.LatestUnstable)
		}
	}
	if seen != len(api.Table()) {
		t.Errorf("the reference has %d APIs, the table %d", seen, len(api.Table()))
	}
}

func TestHeaders(t *testing.T) {
	for _, i := range api.Table() {
		if i.NewRequest().APIKey() != i.Key || i.NewResponse().APIKey() != i.Key {
			t.Errorf("%s makes messages of another API", i.Name)
		}
	}
	for _, c := range []struct {
		key               wire.APIKey
		version           int16
		request, response int16
	}{
		{wire.Produce, 8, 1, 0}, {wire.Produce, 9, 2, 1}, {wire.SaslHandshake, 1, 1, 0}, {wire.ApiVersions, 2, 1, 0},
		{wire.ApiVersions, 3, 2, 0}, {wire.ApiVersions, 99, 2, 0}, {wire.Vote, 0, 2, 1}, {wire.Heartbeat, 3, 1, 0},
	} {
		i, ok := api.Lookup(c.key)
		if !ok || i.RequestHeaderVersion(c.version) != c.request || i.ResponseHeaderVersion(c.version) != c.response {
			t.Errorf("%v %d: headers %d, %d", c.key, c.version, i.RequestHeaderVersion(c.version), i.ResponseHeaderVersion(c.version))
		}
	}
	for _, key := range []wire.APIKey{-1, 4, 7, 95, 32767} {
		if i, ok := api.Lookup(key); ok {
			t.Errorf("%d is %s", key, i.Name)
		}
	}
	i, _ := api.Lookup(wire.InitProducerID)
	if !i.Served(5, false) || i.Served(6, false) || !i.Served(6, true) || i.Served(7, true) || i.Served(-1, true) {
		t.Error("the unstable version is served wrongly")
	}
}

func TestReadRequestHeader(t *testing.T) {
	client := "client"
	for _, c := range []struct {
		key     wire.APIKey
		version int16
		form    int16
	}{{wire.Metadata, 8, 1}, {wire.Metadata, 12, 2}, {wire.ApiVersions, 77, 2}, {wire.Metadata, 99, 2}} {
		h := &wire.RequestHeader{RequestApiKey: int16(c.key), RequestApiVersion: c.version, CorrelationID: 7, ClientID: &client}
		frame := append(wire.Marshal(h, c.form), 0xaa)
		r := wire.NewReader(frame, nil)
		got, info, err := api.ReadRequestHeader(r)
		if err != nil || info.Key != c.key || got.CorrelationID != 7 || *got.ClientID != client || r.Remaining() != 1 {
			t.Errorf("%v %d: %+v, %v, %d left", c.key, c.version, got, err, r.Remaining())
		}
		for n := range frame {
			if _, _, err := api.ReadRequestHeader(wire.NewReader(frame[:n], nil)); (err == nil) != (n == len(frame)-1) {
				t.Errorf("%v %d cut to %d: %v", c.key, c.version, n, err)
			}
		}
	}
	frame := wire.Marshal(&wire.RequestHeader{RequestApiKey: 4}, 1)
	if _, _, err := api.ReadRequestHeader(wire.NewReader(frame, nil)); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("a removed API: %v", err)
	}
}
