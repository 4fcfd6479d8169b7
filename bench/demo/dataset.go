package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// line is one record of the data set.
type line struct{ key, value []byte }

// dataset is what goes in, and for each key a digest of its values in order.
type dataset struct {
	lines  []line
	digest map[uint64]uint64 // hash of key -> rolling digest of its values
	bytes  int64
}

// Hashes are compared between processes: they must not depend on a process's seed.
func hash(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

func roll(digest, h uint64) uint64 { return digest*6364136223846793005 + h + 1442695040888963407 }

func (d *dataset) add(key, value []byte) {
	d.lines = append(d.lines, line{key, value})
	k := hash(key)
	d.digest[k] = roll(d.digest[k], hash(value))
	d.bytes += int64(len(key) + len(value))
}

func (d *dataset) full() bool { return *limit > 0 && len(d.lines) >= *limit }

func read() (*dataset, error) {
	d := &dataset{digest: map[uint64]uint64{}}
	if *file != "" {
		return d, d.addFile(*file, filepath.Base(*file))
	}
	root := goTree()
	if _, err := os.Stat(root); err != nil { // a binary built with -trimpath does not know its GOROOT
		out, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			return nil, fmt.Errorf("no Go tree to send (use -file): %w", err)
		}
		root = filepath.Join(strings.TrimSpace(string(out)), "src")
	}
	return d, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !e.Type().IsRegular() || d.full() {
			return err
		}
		name, _ := filepath.Rel(root, path)
		return d.addFile(path, name)
	})
}

func (d *dataset) addFile(path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	key := []byte(name)
	scan := bufio.NewScanner(f)
	scan.Buffer(make([]byte, 64<<10), 900<<10)
	for scan.Scan() && !d.full() {
		d.add(key, append([]byte(nil), scan.Bytes()...))
	}
	if scan.Err() == bufio.ErrTooLong {
		return nil // a line longer than a record may be: the rest of this file is left out
	}
	return scan.Err()
}

// received collects what the consumers report, by partition and offset.
type received struct {
	want, count, again int
	parts              map[int32][]report
	conflict           error
}

// report is one record as a consumer saw it.
type report struct {
	partition int32
	offset    int64
	key, hash uint64
	seen      bool
}

func newReceived(want int) *received { return &received{want: want, parts: map[int32][]report{}} }

func (r *received) take(p report) {
	list := r.parts[p.partition]
	if p.offset < 0 || p.offset > int64(r.want)*2 {
		r.conflict = fmt.Errorf("partition %d: offset %d", p.partition, p.offset)
		return
	}
	for int64(len(list)) <= p.offset {
		list = append(list, report{})
	}
	p.seen = true
	switch before := list[p.offset]; {
	case !before.seen:
		r.count++
	case before == p:
		r.again++
	default:
		r.conflict = fmt.Errorf("partition %d offset %d was read twice and differs", p.partition, p.offset)
	}
	list[p.offset] = p
	r.parts[p.partition] = list
}

// compare checks count, and per key the order and checksum of its values.
func (r *received) compare(set *dataset) error {
	if r.conflict != nil {
		return r.conflict
	}
	if r.count != len(set.lines) {
		return fmt.Errorf("%d records came back of %d", r.count, len(set.lines))
	}
	got := map[uint64]uint64{}
	for partition, list := range r.parts {
		for offset, p := range list {
			if !p.seen {
				return fmt.Errorf("partition %d: offset %d is missing", partition, offset)
			}
			got[p.key] = roll(got[p.key], p.hash)
		}
	}
	if len(got) != len(set.digest) {
		return fmt.Errorf("%d keys came back of %d", len(got), len(set.digest))
	}
	for key, digest := range set.digest {
		if got[key] != digest {
			return fmt.Errorf("a key's values came back changed or in another order")
		}
	}
	return nil
}
