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
	for _, dir := range []string{"/data", "/more"} {
		listDir(&b, disk, dir)
	}
	return b.String()
}

func listDir(b *strings.Builder, disk *vfs.Mem, dir string) {
	entries, _ := disk.List(dir)
	for _, e := range entries {
		if !e.IsDir() {
			if strings.Contains(e.Name(), "checkpoint") {
				text, _ := vfs.ReadFile(disk, dir+"/"+e.Name(), 1<<20)
				fmt.Fprintf(b, "\n  "+dir+"/%s %q", e.Name(), text)
			}
			continue
		}
		files, _ := disk.List(dir + "/" + e.Name())
		for _, f := range files {
			info, _ := f.Info()
			fmt.Fprintf(b, "\n  "+dir+"/%s/%s %d", e.Name(), f.Name(), info.Size())
			if strings.HasSuffix(f.Name(), ".log") {
				data, _ := vfs.ReadFile(disk, dir+"/"+e.Name()+"/"+f.Name(), 1<<20)
				for len(data) > 0 {
					batch, rest, err := record.Next(data)
					if err != nil {
						fmt.Fprintf(b, " [%v]", err)
						break
					}
					fmt.Fprintf(b, " %d-%d", batch.BaseOffset(), batch.LastOffset())
					if batch.CheckCRC() != nil {
						b.WriteString("!")
					}
					data = rest
				}
			}
		}
	}
}
