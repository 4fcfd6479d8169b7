package cli

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func readAll(t *testing.T, input string, properties ...string) (string, error) {
	t.Helper()
	args := []string{"--topic", "t"}
	for _, p := range properties {
		args = append(args, "--reader-property", p)
	}
	o, err := producerParser().parse(args)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRecordReader(o, "reader-property")
	if err != nil {
		return "", err
	}
	show := func(b []byte) string {
		if b == nil {
			return "∅"
		}
		return string(b)
	}
	in := bufio.NewReader(strings.NewReader(input))
	var out []string
	for {
		record, err := r.next(in, io.Discard)
		if errors.Is(err, io.EOF) {
			return strings.Join(out, " "), nil
		}
		if err != nil {
			return strings.Join(out, " "), err
		}
		text := show(record.Key) + "=" + show(record.Value)
		for _, h := range record.Headers {
			text += "{" + h.Key + ":" + show(h.Value) + "}"
		}
		out = append(out, text)
	}
}

func TestRecordReader(t *testing.T) {
	for _, c := range []struct {
		input      string
		properties []string
		want, err  string
	}{
		{"a\nb\r\nc\rd", nil, "∅=a ∅=b ∅=c ∅=d", ""},
		{"\n\xff\n", nil, "∅= ∅=\ufffd", ""},
		{"k\tv\n", []string{"parse.key=true"}, "k=v", ""},
		{"k-v-w\nx\n", []string{"parse.key=true", "key.separator=-"}, "k=v-w", "No key separator found on line number 2: 'x'"},
		{"k\tv\nx\n", []string{"parse.key=true", "ignore.error=true"}, "k=v ∅=x", ""},
		{"a:1,b:2\tk\tv\n", []string{"parse.key=true", "parse.headers=true"}, "k=v{a:1}{b:2}", ""},
		{"a:1\tv\n", []string{"parse.headers=TRUE"}, "∅=v{a:1}", ""},
		{"a1\tv\n", []string{"parse.headers=true"}, "", "No header key separator found in pair 'a1' on line number 1"},
		{"a:N\tN\tN\n", []string{"parse.key=true", "parse.headers=true", "null.marker=N"}, "∅=∅{a:∅}", ""},
		{"N\tk\tv\n", []string{"parse.key=true", "parse.headers=true", "null.marker=N"}, "k=v", ""},
		{"N:1\tk\tv\n", []string{"parse.key=true", "parse.headers=true", "null.marker=N"}, "", "Header keys should not be equal to the null marker 'N' as they can't be null"},
		{"", []string{"headers.delimiter=,"}, "", "headers.delimiter and headers.separator may not be equal"},
		{"", []string{"null.marker=:"}, "", "null.marker and headers.key.separator may not be equal"},
	} {
		got, err := readAll(t, c.input, c.properties...)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != c.want || text != c.err {
			t.Errorf("%q %v: %q, %q; want %q, %q", c.input, c.properties, got, text, c.want, c.err)
		}
	}
}

func TestFormatter(t *testing.T) {
	at := time.UnixMilli(1700000000123)
	record := &kgo.Record{Topic: "t", Partition: 3, Offset: 7, Timestamp: at, Key: []byte("k"), Value: []byte{0, 0, 0, 42},
		Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "b"}}}
	everything := "print.timestamp=true print.partition=true print.offset=true print.epoch=true print.delivery=true print.headers=true print.key=true"
	for _, c := range []struct{ args, want string }{
		{"", "\x00\x00\x00*\n"},
		{everything + " value.deserializer=org.apache.kafka.common.serialization.IntegerDeserializer",
			"CreateTime:1700000000123\tPartition:3\tOffset:7\tDelivery:NOT_PRESENT\tEpoch:NOT_PRESENT\ta:1,b:null\tk\t42\n"},
		{"print.value=false print.key=true key.separator=| line.separator=;", "k;"},
		{"print.key=true key.separator=| null.literal=- headers.separator=+ print.headers=true print.value=false", "a:1+b:-|k\n"},
		{"value.deserializer=org.apache.kafka.common.serialization.LongDeserializer", "Size of data received by LongDeserializer is not 8"},
		{"value.deserializer=com.example.Mine", "the deserializer com.example.Mine is a Java class and cannot be used here"},
	} {
		args := []string{"--topic", "t"}
		for _, p := range strings.Fields(c.args) {
			args = append(args, "--formatter-property", p)
		}
		o, err := consumerParser().parse(args)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		f, err := newFormatter(o, "formatter-property")
		if err == nil {
			err = f.write(&out, record)
		}
		got := out.String()
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.args, got, c.want)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, c := range []struct {
		text string
		ms   int64
	}{
		{"2024-02-29T12:30:00.250", 1709209800250},
		{"2024-02-29T12:30:00.250Z", 1709209800250},
		{"2024-02-29T12:30:00.250+02:00", 1709202600250},
		{"2024-02-29T12:30:00.250-0100", 1709213400250},
		{"2023-02-29T12:30:00.250", -1},
		{"2024-02-29 12:30", -1},
	} {
		at, err := parseDateTime(c.text)
		if (err != nil) != (c.ms < 0) || err == nil && at.UnixMilli() != c.ms {
			t.Errorf("%s: %d, %v; want %d", c.text, at.UnixMilli(), err, c.ms)
		}
	}
	for text, want := range map[string]time.Duration{"PT1H": time.Hour, "P1DT2M0.5S": 24*time.Hour + 2*time.Minute + 500*time.Millisecond,
		"-PT1S": -time.Second, "P": -1, "PT": -1, "1h": -1} {
		got, err := parseISODuration(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
