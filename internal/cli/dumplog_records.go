package cli

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// recordPrinter renders a record's key and value; nil is left out.
type recordPrinter func(r *record.Record) (key, payload *string, err error)

func newRecordPrinter(o *parsed) (recordPrinter, error) {
	switch {
	case o.has("offsets-decoder"):
		return coordinatorPrinter(logrec.DecodeGroup), nil
	case o.has("transaction-log-decoder"):
		return coordinatorPrinter(logrec.DecodeTxn), nil
	case o.has("share-group-state-decoder"):
		return coordinatorPrinter(logrec.DecodeShare), nil
	case o.has("cluster-metadata-decoder"):
		return printMetadata, nil
	case o.has("remote-log-metadata-decoder"):
		return nil, errors.New("records of tiered storage cannot be shown yet")
	}
	value, err := dumpDecoder(o, "value-decoder-class")
	if err != nil {
		return nil, err
	}
	key, err := dumpDecoder(o, "key-decoder-class")
	if err != nil {
		return nil, err
	}
	return func(r *record.Record) (k, v *string, err error) {
		if r.Key != nil {
			if k, err = key(r.Key); err != nil {
				return nil, nil, err
			}
		}
		if r.Value != nil {
			v, err = value(r.Value)
		}
		return k, v, err
	}, nil
}

// dumpDecoder knows Kafka's decoder classes.
func dumpDecoder(o *parsed, name string) (func([]byte) (*string, error), error) {
	class := decoderPackage + "StringDecoder"
	if v := o.all(name); len(v) > 0 {
		class = v[0]
	}
	simple := class[strings.LastIndexByte(class, '.')+1:]
	number := func(size int, show func([]byte) int64) func([]byte) (*string, error) {
		return func(b []byte) (*string, error) {
			if len(b) != size {
				return nil, fmt.Errorf("Size of data received by %s is not %d", simple, size)
			}
			s := strconv.FormatInt(show(b), 10)
			return &s, nil
		}
	}
	switch simple {
	case "StringDecoder":
		return func(b []byte) (*string, error) {
			s := strings.ToValidUTF8(string(b), "�")
			return &s, nil
		}, nil
	case "LongDecoder":
		return number(8, func(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }), nil
	case "IntegerDecoder":
		return number(4, func(b []byte) int64 { return int64(int32(binary.BigEndian.Uint32(b))) }), nil
	}
	return nil, fmt.Errorf("Failed to load decoder class %s", class)
}

// printMetadata shows cluster metadata.
func printMetadata(r *record.Record) (key, payload *string, err error) {
	var text string
	rec, version, err := logrec.DecodeMetadata(r.Value)
	if err == nil {
		var data string
		if data, err = recordJSON(rec, version); err == nil {
			text = fmt.Sprintf(`{"type":"%s","version":%d,"data":%s}`, metadataTypeName(rec), version, data)
		}
	}
	if err != nil {
		text = fmt.Sprintf("Error at %d, skipping. %s", r.Offset, err)
	}
	return nil, &text, nil
}

// metadataTypeName spells RegisterBrokerRecord as REGISTER_BROKER_RECORD.
func metadataTypeName(rec logrec.Record) string {
	name := reflect.Indirect(reflect.ValueOf(rec)).Type().Name()
	name = strings.ReplaceAll(name, "IDs", "Ids")
	var out strings.Builder
	for i, c := range name {
		if i > 0 && unicode.IsUpper(c) {
			out.WriteByte('_')
		}
		out.WriteRune(unicode.ToUpper(c))
	}
	return out.String()
}

// coordinatorPrinter shows records whose keys carry a type.
func coordinatorPrinter(decode func(key, value []byte) (logrec.Key, logrec.Value, error)) recordPrinter {
	return func(r *record.Record) (key, payload *string, err error) {
		if r.Key == nil {
			return nil, nil, fmt.Errorf("Failed to decode message at offset %d using the specified decoder (message had a missing key)", r.Offset)
		}
		k, p, err := coordinatorText(r, decode)
		if err != nil {
			text := fmt.Sprintf("Error at offset %d, skipping. %s", r.Offset, err)
			if errors.Is(err, logrec.ErrUnknownType) && len(r.Key) >= 2 {
				text = fmt.Sprintf("Unknown record type %d at offset %d, skipping.", int16(binary.BigEndian.Uint16(r.Key)), r.Offset)
			}
			return &text, nil, nil
		}
		return &k, &p, nil
	}
}

func coordinatorText(r *record.Record, decode func(key, value []byte) (logrec.Key, logrec.Value, error)) (key, payload string, err error) {
	k, v, err := decode(r.Key, r.Value)
	if err != nil {
		return "", "", err
	}
	data, err := recordJSON(k, 0)
	if err != nil {
		return "", "", err
	}
	key = fmt.Sprintf(`{"type":"%d","data":%s}`, int16(binary.BigEndian.Uint16(r.Key)), data)
	if r.Value == nil {
		return key, "<DELETE>", nil
	}
	version := int16(binary.BigEndian.Uint16(r.Value))
	if g, ok := v.(*logrec.GroupMetadataValue); ok && g.ProtocolType == "consumer" {
		data, err = groupMetadataJSON(g, version)
	} else {
		data, err = recordJSON(v, version)
	}
	return key, fmt.Sprintf(`{"version":"%d","data":%s}`, version, data), err
}

// groupMetadataJSON opens the members' subscriptions and assignments, which are versioned structs in bytes.
func groupMetadataJSON(g *logrec.GroupMetadataValue, version int16) (string, error) {
	var out strings.Builder
	err := writeStruct(&out, reflect.ValueOf(g).Elem(), recordSchemas()["GroupMetadataValue"], version, func(field string, v reflect.Value) (string, bool) {
		var m wire.Message
		switch field {
		case "subscription":
			m = new(logrec.ConsumerProtocolSubscription)
		case "assignment":
			m = new(logrec.ConsumerProtocolAssignment)
		default:
			return "", false
		}
		inner, err := logrec.DecodeVersioned(v.Bytes(), m)
		if err != nil {
			return "", false
		}
		text, err := recordJSON(m, inner)
		return text, err == nil
	})
	return out.String(), err
}

// controlText shows a control record after its metadata.
func controlText(r *record.Record) string {
	t, err := record.ParseControlKey(r.Key)
	if err != nil {
		return " controlType: UNKNOWN"
	}
	body := func(label string, m wire.Message) string {
		if len(r.Value) < 2 {
			return label + "(empty)"
		}
		version := int16(binary.BigEndian.Uint16(r.Value)) // the first field of these structs, and their version
		err := wire.Unmarshal(r.Value, m, version)
		if err == nil {
			var text string
			if text, err = recordJSON(m, version); err == nil {
				return label + text
			}
		}
		return fmt.Sprintf("%s(unreadable: %v)", label, err)
	}
	switch t {
	case record.ControlAbort, record.ControlCommit:
		marker := new(logrec.EndTxnMarker)
		if _, err := logrec.DecodeVersioned(r.Value, marker); err != nil {
			return fmt.Sprintf(" endTxnMarker: %s (unreadable: %v)", t, err)
		}
		return fmt.Sprintf(" endTxnMarker: %s coordinatorEpoch: %d", t, marker.CoordinatorEpoch)
	case record.ControlLeaderChange:
		return body(" LeaderChange: ", new(logrec.LeaderChangeMessage))
	case record.ControlSnapshotHeader:
		return body(" SnapshotHeader ", new(logrec.SnapshotHeaderRecord))
	case record.ControlSnapshotFooter:
		return body(" SnapshotFooter ", new(logrec.SnapshotFooterRecord))
	case record.ControlKRaftVersion:
		return body(" KRaftVersion ", new(logrec.KRaftVersionRecord))
	case record.ControlKRaftVoters:
		return body(" KRaftVoters ", new(logrec.VotersRecord))
	}
	return fmt.Sprintf(" controlType: %s(%d)", t, int16(t))
}
