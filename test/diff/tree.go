package diff

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
)

// tree turns an answer into maps, slices and scalars, with kmsg's field names, so that two answers can be compared and
// addressed by path. Byte slices become strings of their own type; nil stays nil and differs from empty.
func tree(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return tree(v.Elem())
	case reflect.Struct:
		m := map[string]any{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || f.Name == "Version" || f.Name == "UnknownTags" {
				continue
			}
			m[f.Name] = tree(v.Field(i))
		}
		return m
	case reflect.Slice:
		if v.IsNil() {
			return nil
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return blob(v.Bytes())
		}
		fallthrough
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return fmt.Sprintf("%x", v.Interface())
		}
		s := make([]any, v.Len())
		for i := range s {
			s[i] = tree(v.Index(i))
		}
		return s
	default:
		return v.Interface()
	}
}

type blob []byte

// walk calls f for each value that path reaches and stores what f returns in its place.
func walk(v any, path string, f func(any) any) (any, int) {
	if path == "" {
		return f(v), 1
	}
	if strings.HasPrefix(path, "[") {
		end := strings.IndexByte(path, ']')
		index, rest := path[1:end], strings.TrimPrefix(path[end+1:], ".")
		s, ok := v.([]any)
		if !ok {
			return v, 0
		}
		hits := 0
		for i := range s {
			if index == "" || index == strconv.Itoa(i) {
				var n int
				s[i], n = walk(s[i], rest, f)
				hits += n
			}
		}
		return s, hits
	}
	end := strings.IndexAny(path, ".[")
	name, rest := path, ""
	if end >= 0 {
		name, rest = path[:end], strings.TrimPrefix(path[end:], ".")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return v, 0
	}
	child, ok := m[name]
	if !ok {
		return v, 0
	}
	var hits int
	m[name], hits = walk(child, rest, f)
	return v, hits
}

// find returns the first value at path.
func find(v any, path string) (any, bool) {
	var got any
	found := false
	walk(v, path, func(x any) any {
		if !found {
			got, found = x, true
		}
		return x
	})
	return got, found
}

func (m masking) hide(v any) any {
	if p, ok := v.(string); ok && m.part != nil {
		return m.part.ReplaceAllString(p, "<masked>")
	}
	if v == nil {
		return nil
	}
	return "<masked>"
}

func sortBy(field string) func(any) any {
	return func(v any) any {
		s, ok := v.([]any)
		if !ok {
			return v
		}
		sort.SliceStable(s, func(i, j int) bool { return sortKey(s[i], field) < sortKey(s[j], field) })
		return s
	}
}

func sortKey(v any, field string) string {
	if field != "" {
		v, _ = find(v, field)
	}
	if n, ok := v.(int32); ok {
		return fmt.Sprintf("%012d", n)
	}
	return fmt.Sprint(v)
}

// compare lists the paths at which two trees differ, at most 20.
func compare(path string, kafka, moldau any, out []string) []string {
	if len(out) >= 20 {
		return out
	}
	differ := func() []string {
		return append(out, fmt.Sprintf("%s: kafka %s, moldau %s", path, show(kafka), show(moldau)))
	}
	switch k := kafka.(type) {
	case map[string]any:
		m, ok := moldau.(map[string]any)
		if !ok {
			return differ()
		}
		names := make([]string, 0, len(k))
		for name := range k {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			out = compare(path+"."+name, k[name], m[name], out)
		}
		return out
	case []any:
		m, ok := moldau.([]any)
		if !ok {
			return differ()
		}
		if len(k) != len(m) {
			out = append(out, fmt.Sprintf("%s: kafka has %d elements, moldau %d", path, len(k), len(m)))
		}
		for i := range min(len(k), len(m)) {
			out = compare(fmt.Sprintf("%s[%d]", path, i), k[i], m[i], out)
		}
		for i := len(k); i < len(m); i++ {
			out = append(out, fmt.Sprintf("%s[%d]: only moldau: %s", path, i, show(m[i])))
		}
		for i := len(m); i < len(k); i++ {
			out = append(out, fmt.Sprintf("%s[%d]: only kafka: %s", path, i, show(k[i])))
		}
		return out
	case blob:
		m, ok := moldau.(blob)
		if !ok || string(k) != string(m) {
			return differ()
		}
		return out
	default:
		if !reflect.DeepEqual(kafka, moldau) {
			return differ()
		}
		return out
	}
}

func show(v any) string {
	var s string
	switch v := v.(type) {
	case nil:
		return "null"
	case blob:
		s = fmt.Sprintf("%x (%d bytes)", []byte(v[:min(len(v), 100)]), len(v))
	case string:
		s = strconv.Quote(v)
	default:
		s = fmt.Sprintf("%v", v)
	}
	if len(s) > 400 {
		s = s[:400] + "..."
	}
	return s
}

// wholly reports whether a mask would hide a whole answer.
func wholly(path string) bool {
	return path == "" || path == "[]" || !strings.ContainsAny(path, ".[") && path == "*"
}
