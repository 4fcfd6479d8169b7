package log

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// MetaProperties is the content of a log directory's meta.properties.
type MetaProperties struct {
	Version     int // 1; 0 was written by clusters with ZooKeeper
	ClusterID   string
	NodeID      id.BrokerID // id.NoBroker when absent
	DirectoryID id.UUID     // zero when absent
}

// ReadMetaProperties reads dir/meta.properties. An absent file is an error that matches fs.ErrNotExist.
func ReadMetaProperties(fsys vfs.FS, dir string) (MetaProperties, error) {
	path := filepath.Join(dir, fileMetaProperties)
	m := MetaProperties{NodeID: id.NoBroker}
	b, err := vfs.ReadFile(fsys, path, 1<<20)
	if err != nil {
		return m, err
	}
	props := parseProperties(string(b))
	bad := func(key string, err error) error { return fmt.Errorf("%s: %s=%q: %w", path, key, props[key], err) }
	if v, ok := props["version"]; ok {
		if m.Version, err = strconv.Atoi(v); err != nil {
			return m, bad("version", err)
		}
	}
	if m.Version < 0 || m.Version > 1 {
		return m, bad("version", errors.New("unknown version"))
	}
	m.ClusterID = props["cluster.id"]
	for _, key := range []string{"broker.id", "node.id"} { // node.id wins
		if v, ok := props[key]; ok {
			n, err := strconv.ParseInt(v, 10, 32)
			if err != nil {
				return m, bad(key, err)
			}
			m.NodeID = id.BrokerID(n)
		}
	}
	if v, ok := props["directory.id"]; ok {
		if m.DirectoryID, err = id.ParseUUID(v); err != nil {
			return m, bad("directory.id", err)
		}
	}
	return m, nil
}

// WriteMetaProperties writes dir/meta.properties, atomically and durably.
func WriteMetaProperties(fsys vfs.FS, dir string, m MetaProperties) error {
	var b strings.Builder
	b.WriteString("#\n#\n")
	if m.NodeID != id.NoBroker {
		fmt.Fprintf(&b, "node.id=%d\n", m.NodeID)
	}
	if !m.DirectoryID.IsZero() {
		fmt.Fprintf(&b, "directory.id=%v\n", m.DirectoryID)
	}
	fmt.Fprintf(&b, "version=%d\n", m.Version)
	if m.ClusterID != "" {
		fmt.Fprintf(&b, "cluster.id=%s\n", m.ClusterID)
	}
	return vfs.ReplaceFile(fsys, filepath.Join(dir, fileMetaProperties), ".tmp", []byte(b.String()))
}

// check compares what is on disk with what the node is configured to be.
func (m MetaProperties) check(dir string, o *Options) error {
	path := filepath.Join(dir, fileMetaProperties)
	if o.ClusterID != "" && m.ClusterID != "" && m.ClusterID != o.ClusterID {
		return fmt.Errorf("%s belongs to cluster %s, not %s: the directory is another cluster's", path, m.ClusterID, o.ClusterID)
	}
	if m.NodeID != id.NoBroker && m.NodeID != o.NodeID {
		return fmt.Errorf("%s belongs to node %d, not %d: the directory is another node's", path, m.NodeID, o.NodeID)
	}
	return nil
}

// NewDirectoryID draws an id for a log directory.
func NewDirectoryID() id.UUID {
	for {
		var b [16]byte
		rand.Read(b[:])
		if u, ok := id.NewUUID(b); ok {
			return u
		}
	}
}

// loadMeta reads the directory's meta.properties, or writes it when the manager may format.
func (d *logDir) loadMeta() error {
	m, err := ReadMetaProperties(d.o.FS, d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && d.o.AutoFormat:
		m = MetaProperties{Version: 1, ClusterID: d.o.ClusterID, NodeID: d.o.NodeID, DirectoryID: NewDirectoryID()}
		if err := WriteMetaProperties(d.o.FS, d.path, m); err != nil {
			return d.fail("write meta.properties in", d.path, err)
		}
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("log directory %s has no meta.properties: it was not formatted", d.path)
	case err != nil:
		return fmt.Errorf("log directory %s: %w", d.path, err)
	}
	d.id = m.DirectoryID
	return m.check(d.path, d.o)
}

// parseProperties reads lines of Java's properties format as far as meta.properties needs it: comments, three kinds of
// separators, backslash before a separator.
func parseProperties(text string) map[string]string {
	props := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.Trim(line, " \t\f\r\n")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		var key strings.Builder
		i := 0
		for ; i < len(line) && !strings.ContainsRune("=: \t", rune(line[i])); i++ {
			if line[i] == '\\' && i+1 < len(line) {
				i++
			}
			key.WriteByte(line[i])
		}
		value := strings.TrimLeft(line[i:], " \t")
		if value != "" && (value[0] == '=' || value[0] == ':') {
			value = strings.TrimLeft(value[1:], " \t")
		}
		props[key.String()] = strings.ReplaceAll(value, `\`, "")
	}
	return props
}
