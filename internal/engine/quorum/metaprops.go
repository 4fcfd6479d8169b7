package quorum

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// MetaProperties is what meta.properties says about a directory (version 1, KIP-858).
type MetaProperties struct {
	ClusterID   string
	NodeID      id.BrokerID
	DirectoryID id.UUID // zero when the file has none
}

// maxMetaBytes bounds meta.properties.
const maxMetaBytes = 1 << 16

// ReadMetaProperties reads a directory's meta.properties. fs.ErrNotExist: the directory is not formatted.
func ReadMetaProperties(fsys vfs.FS, dir string) (MetaProperties, error) {
	path := filepath.Join(dir, fileMeta)
	b, err := vfs.ReadFile(fsys, path, maxMetaBytes)
	if err != nil {
		return MetaProperties{}, err
	}
	m, err := parseMeta(string(b))
	if err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func parseMeta(text string) (MetaProperties, error) {
	m := MetaProperties{NodeID: id.NoBroker}
	values := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		k, v, ok := strings.Cut(line, "=")
		if !ok {
			return m, fmt.Errorf("line %q is not a property", line)
		}

		values[strings.TrimSpace(k)] = unescape(strings.TrimSpace(v))
	}
	if v := values["version"]; v != "1" {
		return m, fmt.Errorf("version %q is not 1", v)
	}
	m.ClusterID = values["cluster.id"]
	if m.ClusterID == "" {
		return m, errors.New("cluster.id was not found")
	}
	n, err := strconv.ParseInt(values["node.id"], 10, 32)
	if err != nil || n < 0 {
		return m, fmt.Errorf("node.id %q is not a node id", values["node.id"])
	}
	m.NodeID = id.BrokerID(n)
	if v, ok := values["directory.id"]; ok {
		if m.DirectoryID, err = id.ParseUUID(v); err != nil {
			return m, fmt.Errorf("directory.id: %w", err)
		}
	}
	return m, nil
}

// write replaces a directory's meta.properties, in the form in which Java stores properties.
func (m MetaProperties) write(fsys vfs.FS, dir string, now time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "#\n#%s\ncluster.id=%s\ndirectory.id=%s\nnode.id=%d\nversion=1\n",
		now.UTC().Format("Mon Jan 02 15:04:05 MST 2006"), escape(m.ClusterID), m.DirectoryID, m.NodeID)
	return vfs.ReplaceFile(fsys, filepath.Join(dir, fileMeta), suffixTmp, []byte(b.String()))
}

// escape writes a value as Java does.
func escape(v string) string {
	return strings.NewReplacer(`\`, `\\`, "=", `\=`, ":", `\:`, "#", `\#`, "!", `\!`).Replace(v)
}

func isNotFormatted(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// unescape takes the backslashes away that escape writes.
func unescape(v string) string {
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		b.WriteByte(v[i])
	}
	return b.String()
}
