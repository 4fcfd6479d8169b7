package conf

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf16"
)

// MaxFileBytes bounds a properties file.
const MaxFileBytes = 16 << 20

// ReadFile reads a properties file as java.util.Properties does.
func ReadFile(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading configuration %s: %w", path, err)
	}
	if len(data) > MaxFileBytes {
		return nil, fmt.Errorf("reading configuration %s: larger than %d bytes", path, MaxFileBytes)
	}
	p, err := ParseProperties(data)
	if err != nil {
		return nil, fmt.Errorf("reading configuration %s: %w", path, err)
	}
	return p, nil
}

// ParseProperties reads the format of java.util.Properties.load(InputStream): bytes are ISO-8859-1, "=", ":" or white space
// ends a key, a backslash at the end of a line continues it, \t \n \r \f and \uXXXX are escapes, and the last value of a key
// wins. The only error is a malformed \u escape. (A file in UTF-8 with other than ASCII characters reads as in Kafka: wrongly.)
func ParseProperties(data []byte) (map[string]string, error) {
	out := map[string]string{}
	r := lineReader{rest: data}
	for {
		line, ok := r.next()
		if !ok {
			return out, nil
		}
		rawKey, rawValue := splitProperty(line)
		key, err := unescape(rawKey)
		if err != nil {
			return nil, err
		}
		value, err := unescape(rawValue)
		if err != nil {
			return nil, err
		}
		out[key] = value
	}
}

// lineReader yields logical lines: comments and blank lines dropped, continuations joined, leading white space removed.
type lineReader struct{ rest []byte }

func (r *lineReader) next() ([]byte, bool) {
	for len(r.rest) > 0 {
		line, continued := r.natural()
		line = trimLeadingSpace(line)
		if len(line) == 0 && !continued {
			continue
		}
		if len(line) > 0 && (line[0] == '#' || line[0] == '!') {
			continue // a comment; a backslash at its end continues nothing, see natural
		}
		logical := line
		for continued && len(r.rest) > 0 {
			var more []byte
			more, continued = r.naturalContinuation()
			logical = append(logical[:len(logical):len(logical)], trimLeadingSpace(more)...)
		}
		if len(logical) == 0 {
			continue
		}
		return logical, true
	}
	return nil, false
}

// natural cuts one line off; continued tells that it ended in an odd number of backslashes, of which the last is dropped.
func (r *lineReader) natural() (line []byte, continued bool) {
	if t := trimLeadingSpace(r.rest); len(t) > 0 && (t[0] == '#' || t[0] == '!') {
		end := strings.IndexAny(string(t), "\r\n")
		if end < 0 {
			r.rest = nil
			return t[:1], false
		}
		r.rest = afterLineEnd(t[end:])
		return t[:1], false
	}
	return r.naturalContinuation()
}

func (r *lineReader) naturalContinuation() (line []byte, continued bool) {
	backslash := false
	for i, c := range r.rest {
		switch {
		case c == '\n' || c == '\r':
			line = r.rest[:i]
			r.rest = afterLineEnd(r.rest[i:])
			if backslash {
				line = line[:len(line)-1]
			}
			return line, backslash
		case c == '\\':
			backslash = !backslash
		default:
			backslash = false
		}
	}
	line, r.rest = r.rest, nil
	if backslash {
		line = line[:len(line)-1] // at the end of the file a lone backslash vanishes
	}
	return line, false
}

func afterLineEnd(b []byte) []byte {
	if len(b) > 1 && b[0] == '\r' && b[1] == '\n' {
		return b[2:]
	}
	return b[1:]
}

// trimLeadingSpace drops blanks, and line ends too where natural looks ahead over blank lines.
func trimLeadingSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\f') {
		b = b[1:]
	}
	return b
}

// splitProperty finds the end of the key and the start of the value.
func splitProperty(line []byte) (key, value []byte) {
	backslash := false
	end, hasSeparator := len(line), false
	i := 0
	for ; i < len(line); i++ {
		c := line[i]
		if (c == '=' || c == ':') && !backslash {
			end, hasSeparator = i, true
			i++
			break
		}
		if (c == ' ' || c == '\t' || c == '\f') && !backslash {
			end = i
			i++
			break
		}
		backslash = c == '\\' && !backslash
	}
	for ; i < len(line); i++ {
		c := line[i]
		if c == ' ' || c == '\t' || c == '\f' {
			continue
		}
		if !hasSeparator && (c == '=' || c == ':') {
			hasSeparator = true
			continue
		}
		break
	}
	return line[:end], line[min(i, len(line)):]
}

func unescape(raw []byte) (string, error) {
	units := make([]uint16, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '\\' {
			units = append(units, uint16(c))
			continue
		}
		i++
		if i == len(raw) {
			break
		}
		switch c = raw[i]; c {
		case 'u':
			if len(raw)-i < 5 {
				return "", failf("Malformed \\uxxxx encoding.")
			}
			var n uint16
			for _, h := range raw[i+1 : i+5] {
				d := strings.IndexByte("0123456789abcdef", h|0x20)
				if h >= '0' && h <= '9' {
					d = int(h - '0')
				}
				if d < 0 {
					return "", failf("Malformed \\uxxxx encoding.")
				}
				n = n<<4 | uint16(d)
			}
			units = append(units, n)
			i += 4
		case 't':
			units = append(units, '\t')
		case 'r':
			units = append(units, '\r')
		case 'n':
			units = append(units, '\n')
		case 'f':
			units = append(units, '\f')
		default:
			units = append(units, uint16(c))
		}
	}
	return string(utf16.Decode(units)), nil
}
