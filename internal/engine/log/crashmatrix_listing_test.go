package log

import (
	"fmt"
	"strings"

	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// listing shows what is on a disk, for the message of a failure.
func listing(disk *vfs.Mem) string {
	var b strings.Builder
	entries, _ := disk.List("/data")
	for _, e := range entries {
		if !e.IsDir() {
			if strings.Contains(e.Name(), "checkpoint") {
				text, _ := vfs.ReadFile(disk, "/data/"+e.Name(), 1<<20)
				fmt.Fprintf(&b, "\n  %s %q", e.Name(), text)
			}
			continue
		}
		files, _ := disk.List("/data/" + e.Name())
		for _, f := range files {
			info, _ := f.Info()
			fmt.Fprintf(&b, "\n  %s/%s %d", e.Name(), f.Name(), info.Size())
			if strings.HasSuffix(f.Name(), ".log") {
				data, _ := vfs.ReadFile(disk, "/data/"+e.Name()+"/"+f.Name(), 1<<20)
				for len(data) > 0 {
					batch, rest, err := record.Next(data)
					if err != nil {
						fmt.Fprintf(&b, " [%v]", err)
						break
					}
					fmt.Fprintf(&b, " %d-%d", batch.BaseOffset(), batch.LastOffset())
					if batch.CheckCRC() != nil {
						b.WriteString("!")
					}
					data = rest
				}
			}
		}
	}
	return b.String()
}
