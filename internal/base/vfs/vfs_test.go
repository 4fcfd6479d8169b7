package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/moldau-io/moldau/internal/base/seed"
)

// both runs a test on a disk and in memory.
func both(t *testing.T, f func(t *testing.T, fsys FS, dir string)) {
	t.Run("os", func(t *testing.T) { f(t, OS(), t.TempDir()) })
	t.Run("mem", func(t *testing.T) {
		m := NewMem()
		if err := m.MkdirAll("/d", 0o755); err != nil {
			t.Fatal(err)
		}
		f(t, m, "/d")
	})
}

func write(t *testing.T, fsys FS, path, content string) {
	t.Helper()
	if err := WriteFile(fsys, path, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, fsys FS, path string) string {
	t.Helper()
	b, err := ReadFile(fsys, path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "<absent>"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFiles(t *testing.T) {
	both(t, func(t *testing.T, fsys FS, dir string) {
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "sub", "b")
		if _, err := fsys.OpenFile(a, os.O_RDWR, 0); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("open of an absent file: %v", err)
		}
		write(t, fsys, a, "hello")
		if err := fsys.MkdirAll(filepath.Dir(b), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := fsys.Rename(a, b); err != nil {
			t.Fatal(err)
		}
		if got := read(t, fsys, a) + " " + read(t, fsys, b); got != "<absent> hello" {
			t.Fatal(got)
		}
		f, err := fsys.OpenFile(b, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt([]byte("XY"), 6) // leaves a hole
		f.Write([]byte("HE"))
		f.Write([]byte("L"))
		buf := make([]byte, 10)
		n, err := f.ReadAt(buf, 0)
		if n != 8 || err != io.EOF || string(buf[:n]) != "HELlo\x00XY" {
			t.Fatalf("%q %v", buf[:n], err)
		}
		if err := f.Truncate(3); err != nil {
			t.Fatal(err)
		}
		if size, _ := f.Size(); size != 3 {
			t.Fatal(size)
		}
		if err := fsys.Remove(b); err != nil {
			t.Fatal(err)
		}
		if n, _ := f.ReadAt(buf[:3], 0); string(buf[:n]) != "HEL" {
			t.Fatal("a removed file must stay readable while it is open")
		}
		f.Close()
		if _, err := f.ReadAt(buf, 0); !errors.Is(err, fs.ErrClosed) {
			t.Fatalf("read of a closed file: %v", err)
		}
		write(t, fsys, filepath.Join(dir, "z"), "")
		write(t, fsys, filepath.Join(dir, "c"), "")
		entries, err := fsys.List(dir)
		if err != nil || len(entries) != 3 || entries[0].Name() != "c" || entries[1].Name() != "sub" || !entries[1].IsDir() {
			t.Fatalf("%v %v", entries, err)
		}
		if err := fsys.Remove(dir); !errors.Is(err, syscall.ENOTEMPTY) {
			t.Fatalf("remove of a full directory: %v", err)
		}
		if err := fsys.RemoveAll(dir); err != nil || Exists(fsys, dir) {
			t.Fatal(err)
		}
	})
}

func TestLockExcludesASecondHolderInTheProcess(t *testing.T) {
	both(t, func(t *testing.T, fsys FS, dir string) {
		path := filepath.Join(dir, ".lock")
		l, err := fsys.Lock(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fsys.Lock(path); !errors.Is(err, ErrLocked) {
			t.Fatalf("second lock: %v", err)
		}
		read(t, fsys, path) // opening and closing the file elsewhere must not drop the lock
		if _, err := fsys.Lock(path); !errors.Is(err, ErrLocked) {
			t.Fatalf("after a close of another descriptor: %v", err)
		}
		l.Close()
		l, err = fsys.Lock(path)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	})
}

// A classic POSIX lock, which is what Java takes, must conflict with ours in both directions.
func TestLockConflictsWithPOSIXLocks(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 to take a POSIX lock with")
	}
	path := filepath.Join(t.TempDir(), ".lock")
	try := func() error {
		return exec.Command(python, "-c", "import fcntl,sys; f=open(sys.argv[1],'a+'); fcntl.lockf(f, fcntl.LOCK_EX|fcntl.LOCK_NB)", path).Run()
	}
	l, err := OS().Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if try() == nil {
		t.Error("another process got a POSIX lock on a file that we hold")
	}
	l.Close()
	if err := try(); err != nil {
		t.Error("the lock was not released:", err)
	}
	cmd := exec.Command(python, "-c", "import fcntl,sys; f=open(sys.argv[1],'a+'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()", path)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.ReadFull(out, make([]byte, 4))
	if _, err := OS().Lock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("we got a lock that another process holds: %v", err)
	}
	in.Close()
	cmd.Wait()
}

func TestCrashLosesWhatWasNotSynced(t *testing.T) {
	m := NewMem()
	m.MkdirAll("/d", 0o755)
	m.SyncDir("/")
	write(t, m, "/d/kept", "one")
	m.SyncDir("/d")
	f, _ := m.OpenFile("/d/kept", os.O_RDWR, 0)
	f.WriteAt([]byte("two and more"), 0)
	write(t, m, "/d/new", "synced, but its name is not")
	m.Rename("/d/kept", "/d/moved")

	c := m.CrashClone(LoseUnsynced)
	if got := read(t, c, "/d/kept") + "|" + read(t, c, "/d/moved") + "|" + read(t, c, "/d/new"); got != "one|<absent>|<absent>" {
		t.Error(got)
	}
	c = m.CrashClone(KeepUnsynced)
	if got := read(t, c, "/d/kept") + "|" + read(t, c, "/d/moved") + "|" + read(t, c, "/d/new"); got != "<absent>|two and more|synced, but its name is not" {
		t.Error(got)
	}
	f.Sync()
	m.SyncDir("/d")
	c = m.CrashClone(LoseUnsynced)
	if got := read(t, c, "/d/kept") + "|" + read(t, c, "/d/moved") + "|" + read(t, c, "/d/new"); got != "<absent>|two and more|synced, but its name is not" {
		t.Error(got)
	}
	if _, err := c.Lock("/d/x"); err != nil {
		t.Error(err)
	}
}

func TestReplaceFileIsAtomicInEveryCrash(t *testing.T) {
	seed := seed.Of(t)
	for step := 1; ; step++ {
		m := NewMem()
		m.MkdirAll("/d", 0o755)
		m.SyncDir("/")
		if err := ReplaceFile(m, "/d/f", ".tmp", []byte("old")); err != nil {
			t.Fatal(err)
		}
		x := NewFaults(m)
		x.Add(Rule{Op: OpChange, Nth: step, Crash: true, Short: 0.5})
		err := ReplaceFile(x, "/d/f", ".tmp", []byte("new"))
		for i := range uint64(20) {
			got := read(t, m.CrashClone(seed+i), "/d/f")
			if got != "old" && got != "new" || err == nil && got != "new" {
				t.Fatalf("crash at step %d, clone %d: %q (returned %v)", step, seed+i, got, err)
			}
		}
		if err == nil {
			if step < 4 {
				t.Fatalf("only %d changes: the test does not cover what it should", step)
			}
			return
		}
	}
}

func TestCrashCloneIsRepeatable(t *testing.T) {
	m := NewMem()
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		f, _ := m.OpenFile("/"+name, os.O_RDWR|os.O_CREATE, 0)
		f.WriteAt(bytes.Repeat([]byte(name), 10000), 0)
	}
	dump := func(m *Mem) (s string) {
		entries, _ := m.List("/")
		for _, e := range entries {
			s += e.Name() + read(t, m, "/"+e.Name())
		}
		return s
	}
	seed := seed.Of(t)
	if dump(m.CrashClone(seed)) != dump(m.CrashClone(seed)) {
		t.Fatalf("seed %d gives two different crashes", seed)
	}
}

func TestFullDisk(t *testing.T) {
	m := NewMem()
	f, _ := m.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0)
	m.SetFree(10)
	n, err := f.WriteAt(make([]byte, 16), 0)
	if n != 10 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%d %v", n, err)
	}
	if n, err := f.WriteAt(make([]byte, 10), 0); n != 10 || err != nil {
		t.Fatalf("an overwrite needs no room: %d %v", n, err)
	}
	f.Truncate(4)
	if n, err := f.WriteAt(make([]byte, 6), 4); n != 6 || err != nil {
		t.Fatalf("room was not given back: %d %v", n, err)
	}
}

func TestFaultRules(t *testing.T) {
	x := NewFaults(NewMem())
	x.Add(Rule{Op: OpSync, Path: "*.log", Nth: 2, Err: syscall.EIO})
	x.Add(Rule{Op: OpWrite, Path: "short", Nth: 1, Err: syscall.ENOSPC, Short: 0.5})
	f, err := x.OpenFile("/a.log", os.O_RDWR|os.O_CREATE, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	s, _ := x.OpenFile("/short", os.O_RDWR|os.O_CREATE, 0)
	if n, err := s.WriteAt([]byte("12345678"), 0); n != 4 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%d %v", n, err)
	}
	x.Add(Rule{Op: OpRead, Crash: true})
	if _, err := s.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrCrashed) {
		t.Fatal(err)
	}
	if _, err := x.Stat("/short"); !errors.Is(err, ErrCrashed) || !x.Crashed() {
		t.Fatal(err)
	}
}

// TestFaultsThatAsk: a rule may wait and decide; its path may name directories.
func TestFaultsThatAsk(t *testing.T) {
	x := NewFaults(NewMem())
	for _, dir := range []string{"/d/slow-0", "/d/fast-0"} {
		if err := x.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var asked []string
	answer := error(nil)
	x.Add(Rule{Op: OpSync, Path: "slow-*/*.log", Call: func(path string) error {
		x.Changes() // no lock is held
		asked = append(asked, path)
		return answer
	}})
	for _, path := range []string{"/d/slow-0/a.log", "/d/fast-0/a.log", "/d/slow-0/a.index", "/d/slow-0.log"} {
		f, err := x.OpenFile(path, os.O_RDWR|os.O_CREATE, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, answer = range []error{nil, syscall.EIO} {
			want := answer
			if path != "/d/slow-0/a.log" {
				want = nil
			}
			if err := f.Sync(); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", path, err, want)
			}
		}
	}
	if want := []string{"/d/slow-0/a.log", "/d/slow-0/a.log"}; !slices.Equal(asked, want) {
		t.Errorf("asked about %q", asked)
	}
}

func TestFaultsThatLieAndThatAreWatched(t *testing.T) {
	m := NewMem()
	x := NewFaults(m)
	x.Add(Rule{Op: OpSync, Path: "lost", Skip: true})
	x.Add(Rule{Op: OpWrite, Path: "changed", Alter: func(b []byte) []byte { return bytes.ToUpper(b) }})
	var seen []string
	x.Watch(func(op Op, path string) { seen = append(seen, string(op)+" "+path+" "+read(t, m, path)) })
	write(t, x, "/lost", "abcd")
	x.Watch(nil)
	write(t, x, "/changed", "abcd")
	want := []string{"create /lost <absent>", "write /lost ", "write /lost ab", "sync /lost abcd"}
	if !slices.Equal(seen, want) {
		t.Errorf("%q", seen)
	}
	m.SyncDir("/")
	if got := read(t, m.CrashClone(LoseUnsynced), "/lost") + "|" + read(t, m.CrashClone(LoseUnsynced), "/changed"); got != "|ABCD" {
		t.Error(got)
	}
}
