package diff

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// request builds the kmsg request of a row: kmsg's defaults, then the row's JSON over them. vars holds this side's saved values.
func request(r *row, vars map[string]any) (kmsg.Request, error) {
	var req kmsg.Request
	for key := range int16(kmsg.MaxKey + 1) {
		if strings.EqualFold(kmsg.NameForKey(key), r.api) {
			req = kmsg.RequestForKey(key)
			break
		}
	}
	if req == nil {
		return nil, fmt.Errorf("line %d: no API %q", r.line, r.api)
	}
	if d, ok := req.(interface{ Default() }); ok {
		d.Default()
	}
	req.SetVersion(r.version)
	if r.body == "" {
		return req, nil
	}
	dec := json.NewDecoder(strings.NewReader(r.body))
	dec.UseNumber()
	var fields any
	if err := dec.Decode(&fields); err != nil {
		return nil, fmt.Errorf("line %d: %w", r.line, err)
	}
	if err := fill(reflect.ValueOf(req).Elem(), fields, vars); err != nil {
		return nil, fmt.Errorf("line %d: %w", r.line, err)
	}
	return req, nil
}

// fill stores a JSON value in a kmsg field. New structs begin with kmsg's defaults.
func fill(v reflect.Value, j any, vars map[string]any) error {
	if s, ok := j.(string); ok && strings.HasPrefix(s, "$") {
		got, ok := vars[s[1:]]
		if !ok {
			return fmt.Errorf("nothing saved as %s", s)
		}
		return fillSaved(v, got)
	}
	if j == nil {
		v.SetZero()
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem(), j, vars)
	case reflect.Struct:
		m, ok := j.(map[string]any)
		if !ok {
			return fmt.Errorf("%v wants an object", v.Type())
		}
		if d, ok := v.Addr().Interface().(interface{ Default() }); ok && v.CanAddr() && v.Type().NumField() > 0 && !isRequest(v) {
			d.Default()
		}
		for name, value := range m {
			f := v.FieldByName(name)
			if !f.IsValid() {
				return fmt.Errorf("%v has no field %s", v.Type(), name)
			}
			if err := fill(f, value, vars); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b, err := bytesOf(j, vars)
			v.SetBytes(b)
			return err
		}
		s, ok := j.([]any)
		if !ok {
			return fmt.Errorf("%v wants an array", v.Type())
		}
		v.Set(reflect.MakeSlice(v.Type(), len(s), len(s)))
		for i := range s {
			if err := fill(v.Index(i), s[i], vars); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return nil
	case reflect.Array:
		b, err := uuid(j)
		if err == nil {
			reflect.Copy(v, reflect.ValueOf(b))
		}
		return err
	case reflect.String:
		s, ok := j.(string)
		if !ok {
			return fmt.Errorf("wants a string, got %v", j)
		}
		if n, rest, ok := strings.Cut(s, "*"); ok && strings.HasPrefix(n, "@") { // "@250*x": x 250 times
			count := 0
			fmt.Sscanf(n, "@%d", &count)
			s = strings.Repeat(rest, count)
		}
		v.SetString(s)
		return nil
	case reflect.Bool:
		b, _ := j.(bool)
		v.SetBool(b)
		return nil
	default:
		n, ok := j.(json.Number)
		if !ok {
			return fmt.Errorf("%v wants a number, got %v", v.Type(), j)
		}
		if v.CanFloat() {
			f, err := n.Float64()
			v.SetFloat(f)
			return err
		}
		i, err := n.Int64()
		if err != nil {
			return err
		}
		switch {
		case v.CanInt():
			v.SetInt(i)
		case v.CanUint():
			v.SetUint(uint64(i))
		}
		return nil
	}
}

func isRequest(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(kmsg.Request)
	return ok
}

// fillSaved stores a value that came out of an answer's tree.
func fillSaved(v reflect.Value, saved any) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if text, ok := saved.(string); ok && v.Kind() == reflect.Array {
		b, err := hex.DecodeString(text)
		if err == nil {
			reflect.Copy(v, reflect.ValueOf(b))
		}
		return err
	}
	if b, ok := saved.(blob); ok {
		v.SetBytes(b)
		return nil
	}
	sv := reflect.ValueOf(saved)
	if !sv.IsValid() || !sv.CanConvert(v.Type()) {
		return fmt.Errorf("saved %v does not fit %v", saved, v.Type())
	}
	v.Set(sv.Convert(v.Type()))
	return nil
}

func uuid(j any) ([]byte, error) {
	s, _ := j.(string)
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != 16 {
		return nil, fmt.Errorf("%v is not a UUID of 22 characters", j)
	}
	return b, nil
}

// bytesOf reads a bytes field: "@batch ..." for records, "@hex 00ff", else the text itself.
func bytesOf(j any, vars map[string]any) ([]byte, error) {
	s, ok := j.(string)
	if !ok {
		return nil, fmt.Errorf("wants a string, got %v", j)
	}
	switch word, rest, _ := strings.Cut(s, " "); word {
	case "@batch":
		return batches(rest, vars)
	case "@hex":
		return hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
	default:
		return []byte(s), nil
	}
}
