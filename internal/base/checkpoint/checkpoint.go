package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// The only version there is.
const version = 0

// maxFileBytes bounds what is read: some two million partitions with names of ordinary length.
const maxFileBytes = 128 << 20

// tmpSuffix is what Kafka appends to the file it is about to rename.
const tmpSuffix = ".tmp"

// FormatError reports a checkpoint file that cannot be understood. Line counts from 1.
type FormatError struct {
	Path   string
	Line   int
	Reason string
}

// Error says where and why.
func (e *FormatError) Error() string {
	return fmt.Sprintf("checkpoint file %s, line %d: %s", e.Path, e.Line, e.Reason)
}

// EpochEntry says at which offset a leader epoch began.
type EpochEntry struct {
	Epoch       id.LeaderEpoch
	StartOffset id.Offset
}

// ReadOffsets reads offsets by partition. On a *FormatError the map holds the entries before the bad line.
func ReadOffsets(fsys vfs.FS, path string) (map[id.TopicPartition]id.Offset, error) {
	m := map[id.TopicPartition]id.Offset{}
	err := read(fsys, path, func(fields [][]byte) string {
		if len(fields) != 3 {
			return "expected topic, partition and offset"
		}
		p, err := strconv.ParseInt(string(fields[1]), 10, 32)
		if err != nil {
			return "bad partition number"
		}
		o, err := strconv.ParseInt(string(fields[2]), 10, 64)
		if err != nil {
			return "bad offset"
		}
		m[id.TopicPartition{Topic: string(fields[0]), Partition: int32(p)}] = id.Offset(o)
		return ""
	})
	return m, err
}

// WriteOffsets replaces the file's content, in order of topic and partition.
func WriteOffsets(fsys vfs.FS, path string, m map[id.TopicPartition]id.Offset) error {
	keys := make([]id.TopicPartition, 0, len(m))
	for tp := range m {
		keys = append(keys, tp)
	}
	slices.SortFunc(keys, id.TopicPartition.Compare)
	b := header(len(keys))
	for _, tp := range keys {
		b = append(b, tp.Topic...)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(tp.Partition), 10)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(m[tp]), 10)
		b = append(b, '\n')
	}
	return vfs.ReplaceFile(fsys, path, tmpSuffix, b)
}

// ReadEpochs reads the entries of a leader-epoch-checkpoint in the order of the file.
func ReadEpochs(fsys vfs.FS, path string) ([]EpochEntry, error) {
	var entries []EpochEntry
	err := read(fsys, path, func(fields [][]byte) string {
		if len(fields) != 2 {
			return "expected epoch and start offset"
		}
		e, err := strconv.ParseInt(string(fields[0]), 10, 32)
		if err != nil {
			return "bad epoch"
		}
		o, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			return "bad start offset"
		}
		entries = append(entries, EpochEntry{Epoch: id.LeaderEpoch(e), StartOffset: id.Offset(o)})
		return ""
	})
	return entries, err
}

// WriteEpochs replaces the content of a leader-epoch-checkpoint.
func WriteEpochs(fsys vfs.FS, path string, entries []EpochEntry) error {
	b := header(len(entries))
	for _, e := range entries {
		b = strconv.AppendInt(b, int64(e.Epoch), 10)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(e.StartOffset), 10)
		b = append(b, '\n')
	}
	return vfs.ReplaceFile(fsys, path, tmpSuffix, b)
}

func header(entries int) []byte {
	b := make([]byte, 0, 16+32*entries)
	b = strconv.AppendInt(b, version, 10)
	b = append(b, '\n')
	b = strconv.AppendInt(b, int64(entries), 10)
	return append(b, '\n')
}

// read hands the fields of each entry to f, which returns what is wrong with them.
func read(fsys vfs.FS, path string, f func(fields [][]byte) string) error {
	b, err := vfs.ReadFile(fsys, path, maxFileBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	if len(b) == 0 {
		// Kafka creates the file before it first writes to it, and takes an empty one for no entries.
		return nil
	}
	bad := func(line int, reason string) error { return &FormatError{Path: path, Line: line, Reason: reason} }
	number := func(line []byte) (int64, error) { return strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 32) }

	line, rest, _ := bytes.Cut(b, []byte{'\n'})
	v, err := number(line)
	if err != nil {
		return bad(1, "bad version number")
	}
	if v != version {
		return bad(1, fmt.Sprintf("unknown version %d", v))
	}
	line, rest, _ = bytes.Cut(rest, []byte{'\n'})
	want, err := number(line)
	if err != nil || want < 0 {
		return bad(2, "bad number of entries")
	}
	got := int64(0)
	for n := 3; len(rest) > 0; n++ {
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		fields := bytes.Fields(line)
		if len(fields) == 0 && len(bytes.TrimSpace(rest)) == 0 {
			break
		}
		if reason := f(fields); reason != "" {
			return bad(n, reason)
		}
		got++
	}
	if got != want {
		return bad(int(got)+2, fmt.Sprintf("%d entries announced, %d found", want, got))
	}
	return nil
}
