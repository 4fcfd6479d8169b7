package wire_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// vectorDir holds byte vectors written by Kafka's own serializers, one directory per message; it is not part of the project.
var vectorDir = filepath.Join("..", "..", "..", "shared", "reference", "wire-vectors", "vectors")

type vector struct {
	Name    string         `json:"name"`
	Message string         `json:"message"`
	Version int16          `json:"version"`
	Value   map[string]any `json:"json_value"`
	Hex     string         `json:"hex"`
	Unknown []struct {
		Tag  uint32 `json:"tag"`
		Data string `json:"data_hex"`
	} `json:"unknown_tagged_fields"`
}

// framing are the messages in the vectors that are not requests or responses.
func framing(name string) wire.Message {
	switch name {
	case "RequestHeader":
		return wire.NewRequestHeader()
	case "ResponseHeader":
		return wire.NewResponseHeader()
	case "AbortedTxn":
		return logrec.NewAbortedTxn()
	case "ConsumerProtocolAssignment":
		return logrec.NewConsumerProtocolAssignment()
	case "ConsumerProtocolSubscription":
		return logrec.NewConsumerProtocolSubscription()
	case "ControlRecordTypeSchema":
		return logrec.NewControlRecordTypeSchema()
	case "DefaultPrincipalData":
		return logrec.NewDefaultPrincipalData()
	case "EndTxnMarker":
		return logrec.NewEndTxnMarker()
	case "KRaftVersionRecord":
		return logrec.NewKRaftVersionRecord()
	case "LeaderChangeMessage":
		return logrec.NewLeaderChangeMessage()
	case "SnapshotFooterRecord":
		return logrec.NewSnapshotFooterRecord()
	case "SnapshotHeaderRecord":
		return logrec.NewSnapshotHeaderRecord()
	case "VotersRecord":
		return logrec.NewVotersRecord()
	}
	return nil
}

func newMessage(name string) wire.Message {
	for _, i := range api.Table() {
		switch name {
		case i.Name + "Request":
			return i.NewRequest()
		case i.Name + "Response":
			return i.NewResponse()
		}
	}
	return framing(name)
}

func TestKafkaVectors(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(vectorDir, "*", "*.json"))
	if len(files) == 0 {
		t.Skip("no vectors in " + vectorDir)
	}
	count := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Vectors []vector `json:"vectors"`
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber() // 64-bit numbers must not pass through a float
		if err := d.Decode(&doc); err != nil {
			t.Fatal(file, err)
		}
		for _, v := range doc.Vectors {
			count++
			t.Run(fmt.Sprintf("%s/%d/%s", v.Message, v.Version, v.Name), func(t *testing.T) { v.check(t) })
		}
	}
	t.Logf("%d vectors", count)
}

func (v vector) check(t *testing.T) {
	if v.Message == "StreamsGroupDescribeResponse" && v.Version == 1 {
		t.Skip("the vectors are older than AssignorName (KIP-1357), which Kafka 4.4 has at this version")
	}
	want := newMessage(v.Message)
	if want == nil {
		t.Fatalf("no message %s", v.Message)
	}
	fromJSON(t, reflect.ValueOf(want).Elem(), v.Value)
	if len(v.Unknown) > 0 {
		tags := &wire.Tags{Count: len(v.Unknown)}
		var w wire.Writer
		for _, u := range v.Unknown {
			data, _ := hex.DecodeString(u.Data)
			w.Uvarint(u.Tag)
			w.Uvarint(uint32(len(data)))
			w.Raw(data)
		}
		tags.Raw, _ = w.AppendTo(nil)
		reflect.ValueOf(want).Elem().FieldByName("UnknownTags").Set(reflect.ValueOf(tags))
	}
	frame, err := hex.DecodeString(v.Hex)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(wire.Marshal(want, v.Version)); got != v.Hex {
		t.Errorf("encoded\n%s, want\n%s", got, v.Hex)
	}
	decode := func() wire.Message {
		m := newMessage(v.Message)
		r := wire.NewReader(frame, wire.NewBudget(len(frame), nil))
		m.Decode(r, v.Version)
		if err := r.Finish(); err != nil {
			t.Fatal(err)
		}
		return m
	}
	// What the JSON leaves out is absent at the version, so the decoded value with the JSON put over it must be itself.
	got, over := decode(), decode()
	fromJSON(t, reflect.ValueOf(over).Elem(), v.Value)
	// Null and empty need not be told apart here, the bytes do that; an absent tagged array is nil where JSON says [].
	if d := cmp.Diff(over, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("decoded (-want +got):\n%s", d)
	}
	if got := hex.EncodeToString(wire.Marshal(got, v.Version)); got != v.Hex {
		t.Errorf("encoded again\n%s, want\n%s", got, v.Hex)
	}
}

var idEnd = regexp.MustCompile(`ID(s?)([A-Z0-9]|$)`)

// jsonName is the name Kafka's JSON form gives to a field.
func jsonName(goName string) string {
	n := idEnd.ReplaceAllString(goName, "Id$1$2")
	return strings.ToLower(n[:1]) + n[1:]
}

// fromJSON sets the fields of a struct that are present in obj and fails the test if obj holds others.
func fromJSON(t *testing.T, s reflect.Value, obj map[string]any) {
	t.Helper()
	seen := 0
	for i := range s.NumField() {
		if v, ok := obj[jsonName(s.Type().Field(i).Name)]; ok {
			seen++
			setJSON(t, s.Field(i), v)
		}
	}
	if seen != len(obj) {
		t.Fatalf("%v has not all of %v", s.Type(), obj)
	}
}

func setJSON(t *testing.T, f reflect.Value, v any) {
	t.Helper()
	switch x := v.(type) {
	case nil:
		f.SetZero()
		return
	case string:
		switch f.Interface().(type) {
		case id.UUID:
			u, err := id.ParseUUID(x)
			if err != nil {
				t.Fatal(err)
			}
			f.Set(reflect.ValueOf(u))
			return
		case []byte:
			f.SetBytes(decode64(t, x))
			return
		case wire.Records:
			f.Set(reflect.ValueOf(wire.Records{Bytes: decode64(t, x)}))
			return
		}
	}
	switch f.Kind() {
	case reflect.Pointer:
		if f.IsNil() {
			f.Set(reflect.New(f.Type().Elem()))
		}
		setJSON(t, f.Elem(), v)
	case reflect.Struct:
		fromJSON(t, f, v.(map[string]any))
	case reflect.Slice:
		list := v.([]any)
		if f.IsNil() || f.Len() != len(list) {
			f.Set(reflect.MakeSlice(f.Type(), len(list), len(list)))
		}
		for i, x := range list {
			setJSON(t, f.Index(i), x)
		}
	case reflect.String:
		f.SetString(v.(string))
	case reflect.Bool:
		f.SetBool(v.(bool))
	case reflect.Float64:
		n, err := v.(json.Number).Float64()
		if err != nil {
			t.Fatal(err)
		}
		f.SetFloat(n)
	case reflect.Uint16, reflect.Uint32:
		f.SetUint(uint64(toInt(t, v)))
	default:
		f.SetInt(toInt(t, v))
	}
}

func decode64(t *testing.T, s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	if b == nil {
		b = []byte{}
	}
	return b
}

func toInt(t *testing.T, v any) int64 {
	n, err := v.(json.Number).Int64()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
