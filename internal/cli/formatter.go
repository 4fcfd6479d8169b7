package cli

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	formatterPackage      = "org.apache.kafka.tools.consumer."
	defaultFormatterClass = formatterPackage + "DefaultMessageFormatter"
)

// formatter prints records as Kafka's DefaultMessageFormatter does.
type formatter struct {
	silent, logging                                          bool
	timestamp, key, offset, epoch, partition, headers, value bool
	delivery                                                 bool
	keySeparator, lineSeparator, headersSeparator, null      string
	decodeKey, decodeValue, decodeHeader                     deserializer
}

// deserializer renders bytes; nil means as they are.
type deserializer func([]byte) (string, error)

func newFormatter(o *parsed, propertyOption string) (*formatter, error) {
	file, err := o.str("formatter-config")
	if err != nil {
		return nil, err
	}
	p, err := clientProperties(file, nil)
	if err != nil {
		return nil, err
	}
	for _, x := range []string{"key", "value"} {
		class, err := o.str(x + "-deserializer")
		if err != nil {
			return nil, err
		}
		if class != "" {
			p[x+".deserializer"] = class
		}
	}
	for _, pair := range o.all(propertyOption) {
		key, value, _ := strings.Cut(pair, "=")
		p[key] = value
	}
	class, err := o.str("formatter")
	if err != nil {
		return nil, err
	}
	text := func(key, def string) string {
		if v, ok := p[key]; ok {
			return v
		}
		return def
	}
	f := &formatter{
		timestamp: isTrue(p["print.timestamp"]), key: isTrue(p["print.key"]), offset: isTrue(p["print.offset"]), epoch: isTrue(p["print.epoch"]),
		partition: isTrue(p["print.partition"]), headers: isTrue(p["print.headers"]), delivery: isTrue(p["print.delivery"]), value: isTrue(text("print.value", "true")),
		keySeparator: text("key.separator", "\t"), lineSeparator: text("line.separator", "\n"), headersSeparator: text("headers.separator", ","),
		null: text("null.literal", "null"),
	}
	switch class {
	case defaultFormatterClass, "kafka.tools.DefaultMessageFormatter":
	case formatterPackage + "NoOpMessageFormatter", "kafka.tools.NoOpMessageFormatter":
		f.silent = true
	case formatterPackage + "LoggingMessageFormatter", "kafka.tools.LoggingMessageFormatter":
		f.logging = true
	default:
		return nil, fmt.Errorf("%s", class) // a ClassNotFoundException has the name as its message
	}
	for _, x := range []struct {
		key string
		to  *deserializer
	}{{"key.deserializer", &f.decodeKey}, {"value.deserializer", &f.decodeValue}, {"headers.deserializer", &f.decodeHeader}} {
		if name, ok := p[x.key]; ok {
			if *x.to, err = findDeserializer(name); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// findDeserializer knows the classes of Kafka's clients.
func findDeserializer(class string) (deserializer, error) {
	sized := func(n int, show func([]byte) string) deserializer {
		return func(b []byte) (string, error) {
			if len(b) != n {
				return "", fmt.Errorf("Size of data received by %s is not %d", class[strings.LastIndexByte(class, '.')+1:], n)
			}
			return show(b), nil
		}
	}
	switch strings.TrimPrefix(class, "org.apache.kafka.common.serialization.") {
	case "StringDeserializer":
		return func(b []byte) (string, error) { return strings.ToValidUTF8(string(b), "�"), nil }, nil
	case "IntegerDeserializer":
		return sized(4, func(b []byte) string { return strconv.Itoa(int(int32(binary.BigEndian.Uint32(b)))) }), nil
	case "LongDeserializer":
		return sized(8, func(b []byte) string { return strconv.FormatInt(int64(binary.BigEndian.Uint64(b)), 10) }), nil
	case "ShortDeserializer":
		return sized(2, func(b []byte) string { return strconv.Itoa(int(int16(binary.BigEndian.Uint16(b)))) }), nil
	case "DoubleDeserializer":
		return sized(8, func(b []byte) string {
			return javaFloat(math.Float64frombits(binary.BigEndian.Uint64(b)), 64)
		}), nil
	case "FloatDeserializer":
		return sized(4, func(b []byte) string {
			return javaFloat(float64(math.Float32frombits(binary.BigEndian.Uint32(b))), 32)
		}), nil
	case "UUIDDeserializer":
		return func(b []byte) (string, error) { return string(b), nil }, nil
	case "BooleanDeserializer":
		return sized(1, func(b []byte) string { return strconv.FormatBool(b[0] != 0) }), nil
	case "ByteArrayDeserializer":
		return nil, nil
	}
	return nil, fmt.Errorf("the deserializer %s is a Java class and cannot be used here", class)
}

// javaFloat prints a number as Java does: with a fraction always, and with an exponent outside 1e-3 to 1e7.
func javaFloat(f float64, bits int) string {
	if a := math.Abs(f); f == 0 || a >= 1e-3 && a < 1e7 {
		s := strconv.FormatFloat(f, 'f', -1, bits)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exponent, ok := strings.Cut(strconv.FormatFloat(f, 'E', -1, bits), "E")
	if !ok {
		return map[bool]string{true: "Infinity", false: "-Infinity"}[f > 0]
	}
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exponent)
	return mantissa + "E" + strconv.Itoa(n)
}

// write prints one record.
func (f *formatter) write(w io.Writer, r *kgo.Record) error {
	if f.silent {
		return nil
	}
	var line []byte
	// Columns in order; each but the last is followed by the key separator, the last by the line separator.
	type column struct {
		on   bool
		text func() (string, error)
	}
	plain := func(s string) func() (string, error) { return func() (string, error) { return s, nil } }
	columns := []column{
		{f.timestamp, plain(timestampText(r))},
		{f.partition, plain(fmt.Sprintf("Partition:%d", r.Partition))},
		{f.offset, plain(fmt.Sprintf("Offset:%d", r.Offset))},
		{f.delivery, plain("Delivery:NOT_PRESENT")},
		{f.epoch, plain("Epoch:NOT_PRESENT")},
		{f.headers, func() (string, error) { return f.headersText(r) }},
		{f.key, func() (string, error) { return f.render(r.Key, f.decodeKey) }},
		{f.value, func() (string, error) { return f.render(r.Value, f.decodeValue) }},
	}
	for i, c := range columns {
		if !c.on {
			continue
		}
		text, err := c.text()
		if err != nil {
			return err
		}
		line = append(line, text...)
		separator := f.lineSeparator
		for _, later := range columns[i+1:] {
			if later.on {
				separator = f.keySeparator
			}
		}
		line = append(line, separator...)
	}
	_, err := w.Write(line)
	return err
}

func timestampText(r *kgo.Record) string {
	switch r.Attrs.TimestampType() {
	case 0:
		return "CreateTime:" + strconv.FormatInt(r.Timestamp.UnixMilli(), 10)
	case 1:
		return "LogAppendTime:" + strconv.FormatInt(r.Timestamp.UnixMilli(), 10)
	}
	return "NO_TIMESTAMP"
}

func (f *formatter) headersText(r *kgo.Record) (string, error) {
	if len(r.Headers) == 0 {
		return "NO_HEADERS", nil
	}
	var out []string
	for _, h := range r.Headers {
		value, err := f.render(h.Value, f.decodeHeader)
		if err != nil {
			return "", err
		}
		out = append(out, h.Key+":"+value)
	}
	return strings.Join(out, f.headersSeparator), nil
}

// render shows bytes; null passes through the deserializer as the null literal, as in Kafka.
func (f *formatter) render(b []byte, d deserializer) (string, error) {
	if b == nil {
		b = []byte(f.null)
	}
	if d == nil {
		return string(b), nil
	}
	return d(b)
}
