package conf

import (
	"fmt"
	"io"
	"os"
	"unicode/utf16"
)

// MaxFileBytes bounds a properties file.
const MaxFileBytes = 16 << 20

// ReadFile reads a properties file as java.util.Properties does.
func ReadFile(path string) (map[string]string, error) {
	data, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	p, err := ParseProperties(data)
	if err != nil {
		return nil, fmt.Errorf("reading configuration %s: %w", path, err)
	}
	return p, nil
}

// readBounded reads a file of at most MaxFileBytes.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxFileBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, MaxFileBytes)
	}
	return data, nil
}

// parsePropertiesUTF8 reads the same format from UTF-8 text, as Properties.load(Reader) does.
func parsePropertiesUTF8(data []byte) (map[string]string, error) {
	return parseProperties(utf16.Encode([]rune(string(data))))
}

// ParseProperties reads the format of java.util.Properties.load(InputStream): bytes are ISO-8859-1, "=", ":" or white space
// ends a key, a backslash at the end of a line continues it, \t \n \r \f and \u with four hex digits are escapes, and the last value of a key
// wins. The only error is a malformed \u escape. (A file in UTF-8 with other than ASCII characters reads as in Kafka: wrongly.)
func ParseProperties(data []byte) (map[string]string, error) {
	units := make([]uint16, len(data))
	for i, b := range data {
		units[i] = uint16(b)
	}
	return parseProperties(units)
}

func parseProperties(data []uint16) (map[string]string, error) {
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
type lineReader struct{ rest []uint16 }

func (r *lineReader) next() ([]uint16, bool) {
	var line []uint16
	skipSpace := true     // at the start of a natural line
	continuation := false // that line continues another, and so may be blank
	backslash := false    // the last character is a backslash that escapes what follows
	for i := 0; i < len(r.rest); i++ {
		c := r.rest[i]
		lineEnd := c == '\r' || c == '\n'
		if skipSpace {
			if isBlank(c) || lineEnd && !continuation {
				continue
			}
			skipSpace, continuation = false, false
		}
		if len(line) == 0 && (c == '#' || c == '!') {
			for i < len(r.rest) && r.rest[i] != '\r' && r.rest[i] != '\n' {
				i++
			}
			skipSpace = true
			continue
		}
		switch {
		case !lineEnd:
			line = append(line, c)
			backslash = c == '\\' && !backslash
		case len(line) == 0:
			skipSpace = true
		case backslash && i+1 == len(r.rest):
			r.rest = nil
			return line[:len(line)-1], true
		case backslash:
			line = line[:len(line)-1]
			skipSpace, continuation, backslash = true, true, false
			if c == '\r' && i+1 < len(r.rest) && r.rest[i+1] == '\n' {
				i++
			}
		default:
			r.rest = r.rest[i+1:]
			return line, true
		}
	}
	r.rest = nil
	if backslash {
		line = line[:len(line)-1]
		return line, true
	}
	return line, len(line) > 0
}

func isBlank(c uint16) bool { return c == ' ' || c == '\t' || c == '\f' }

// splitProperty finds the end of the key and the start of the value.
func splitProperty(line []uint16) (key, value []uint16) {
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
		if isBlank(c) && !backslash {
			end = i
			i++
			break
		}
		backslash = c == '\\' && !backslash
	}
	for ; i < len(line); i++ {
		c := line[i]
		if isBlank(c) {
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

func unescape(raw []uint16) (string, error) {
	units := make([]uint16, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '\\' {
			units = append(units, c)
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
				d, ok := hexDigit(h)
				if !ok {
					return "", failf("Malformed \\uxxxx encoding.")
				}
				n = n<<4 | d
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
			units = append(units, c)
		}
	}
	return string(utf16.Decode(units)), nil
}

func hexDigit(c uint16) (uint16, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
