package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/schema"
)

// idWord finds the Id of a name, which is ID in the names of Go structs.
var idWord = regexp.MustCompile(`Id(s?)([A-Z0-9]|$)`)

// recordField is one field of a schema, in the order of the generated struct's fields.
type recordField struct {
	name       string // as in JSON
	from, to   int16  // versions, inclusive
	tagged     bool
	def        string
	fields     []recordField // of a struct, or of an array's structs
	sharedName string        // of a struct that is declared further down
}

// recordSchemas parses the schema texts once.
var recordSchemas = sync.OnceValue(func() map[string][]recordField {
	out := map[string][]recordField{}
	err := fs.WalkDir(schema.Records, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(schema.Records, path)
		if err != nil {
			return err
		}
		parseSchema(string(text), out)
		return nil
	})
	if err != nil {
		panic("cli: reading the embedded schemas: " + err.Error())
	}
	return out
})

// schemaLine is a line with its depth of indentation.
type schemaLine struct {
	depth int
	words []string
}

// parseSchema reads the messages of one file.
func parseSchema(text string, out map[string][]recordField) {
	var lines []schemaLine
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			lines = append(lines, schemaLine{(len(line) - len(strings.TrimLeft(line, " "))) / 2, words})
		}
	}
	for i := 0; i < len(lines); i++ {
		if lines[i].words[0] != "message" {
			continue
		}
		shared := map[string][]recordField{}
		fields, _ := parseFields(lines[i+1:], 1, shared)
		resolveShared(fields, shared)
		out[idWord.ReplaceAllString(lines[i].words[1], "ID$1$2")] = fields
	}
}

// parseFields reads the lines of one depth, with what lies below them.
func parseFields(lines []schemaLine, depth int, shared map[string][]recordField) (fields []recordField, used int) {
	for used < len(lines) && lines[used].depth >= depth {
		words := lines[used].words
		used++
		below, n := parseFields(lines[used:], depth+1, shared)
		used += n
		if words[0] == "struct" {
			shared[words[1]] = below
			continue
		}
		f := recordField{name: strings.ToLower(words[0][:1]) + words[0][1:], to: math.MaxInt16, fields: below}
		for _, w := range words[2:] {
			switch key, value, _ := strings.Cut(w, "="); {
			case key == "tag":
				f.tagged = true
			case key == "default":
				f.def = value
			case w[0] >= '0' && w[0] <= '9':
				f.from, f.to = schemaVersions(w)
			}
		}
		if t := strings.TrimPrefix(words[1], "[]"); t[0] >= 'A' && t[0] <= 'Z' {
			f.sharedName = t
		}
		fields = append(fields, f)
	}
	return fields, used
}

// schemaVersions reads "3", "0-7" or "2+".
func schemaVersions(text string) (from, to int16) {
	low, high, isRange := strings.Cut(strings.TrimSuffix(text, "+"), "-")
	a, _ := strconv.ParseInt(low, 10, 16)
	switch {
	case strings.HasSuffix(text, "+"):
		return int16(a), math.MaxInt16
	case isRange:
		b, _ := strconv.ParseInt(high, 10, 16)
		return int16(a), int16(b)
	}
	return int16(a), int16(a)
}

func resolveShared(fields []recordField, shared map[string][]recordField) {
	for i := range fields {
		if fields[i].sharedName != "" {
			fields[i].fields = shared[fields[i].sharedName]
		}
		resolveShared(fields[i].fields, shared)
	}
}

// recordJSON shows a decoded record the way Kafka's JSON converters do: the fields of its version in order, tagged fields only
// if they differ from their default, bytes in base64.
func recordJSON(message any, version int16) (string, error) {
	v := reflect.Indirect(reflect.ValueOf(message))
	name := v.Type().Name()
	fields, ok := recordSchemas()[name]
	if !ok {
		return "", fmt.Errorf("no schema of %s", name)
	}
	var out strings.Builder
	err := writeStruct(&out, v, fields, version, nil)
	return out.String(), err
}

// rewrite may replace a field's JSON; it returns false to leave it.
type rewrite func(field string, value reflect.Value) (string, bool)

func writeStruct(out *strings.Builder, v reflect.Value, fields []recordField, version int16, replace rewrite) error {
	out.WriteByte('{')
	first := true
	for i, f := range fields {
		value := v.Field(i)
		if version < f.from || version > f.to || f.tagged && isSchemaDefault(value, f.def) {
			continue
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		out.WriteString(strconv.Quote(f.name))
		out.WriteByte(':')
		if replace != nil {
			if text, ok := replace(f.name, value); ok {
				out.WriteString(text)
				continue
			}
		}
		if err := writeValue(out, value, f, version, replace); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	out.WriteByte('}')
	return nil
}

// isSchemaDefault reports whether a value is the schema's default.
func isSchemaDefault(v reflect.Value, def string) bool {
	switch v.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, _ := strconv.ParseInt(def, 0, 64)
		return v.Int() == n
	case reflect.Bool:
		return v.Bool() == (def == "true")
	case reflect.String:
		return v.String() == strings.Trim(def, `"`)
	case reflect.Slice:
		return def == "null" && v.IsNil() || def != "null" && v.Len() == 0
	}
	return v.IsZero()
}

func writeValue(out *strings.Builder, v reflect.Value, f recordField, version int16, replace rewrite) error {
	switch x := v.Interface().(type) {
	case id.UUID:
		out.WriteString(strconv.Quote(x.String()))
		return nil
	case []byte:
		if x == nil {
			out.WriteString("null")
			return nil
		}
		out.WriteString(strconv.Quote(base64.StdEncoding.EncodeToString(x)))
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			out.WriteString("null")
			return nil
		}
		return writeValue(out, v.Elem(), f, version, replace)
	case reflect.Slice:
		if v.IsNil() {
			out.WriteString("null")
			return nil
		}
		out.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := writeValue(out, v.Index(i), f, version, replace); err != nil {
				return err
			}
		}
		out.WriteByte(']')
		return nil
	case reflect.Struct:
		return writeStruct(out, v, f.fields, version, replace)
	case reflect.Bool:
		out.WriteString(strconv.FormatBool(v.Bool()))
		return nil
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		out.WriteString(strconv.FormatInt(v.Int(), 10))
		return nil
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		out.WriteString(strconv.FormatUint(v.Uint(), 10))
		return nil
	case reflect.Float64:
		out.WriteString(javaFloat(v.Float(), 64))
		return nil
	case reflect.String:
		out.WriteString(jsonString(v.String()))
		return nil
	}
	return fmt.Errorf("a field of type %s", v.Type())
}

// jsonString quotes a string without escaping HTML.
func jsonString(s string) string {
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	return strings.TrimSuffix(out.String(), "\n")
}
