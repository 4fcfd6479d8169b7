package netx

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestPipeKeepsBytesAndOrder(t *testing.T) {
	a, b := Pipe(7)
	want := make([]byte, 10_000)
	for i := range want {
		want[i] = byte(i * 7)
	}
	go func() {
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 13)
			if _, err := a.Write(rest[:n]); err != nil {
				t.Error(err)
				break
			}
			rest = rest[n:]
		}
		a.Close()
	}()
	got, err := io.ReadAll(b)
	if err != nil || string(got) != string(want) {
		t.Fatalf("read %d bytes, %v; want the %d that were written", len(got), err, len(want))
	}
}

func TestPipeEnds(t *testing.T) {
	a, b := Pipe(0)
	if _, err := a.Write([]byte("left")); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after own close: %v", err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write to a closed peer: %v", err)
	}
	if got, err := io.ReadAll(b); string(got) != "left" || err != nil {
		t.Errorf("after the peer closed: %q, %v", got, err)
	}
}

func TestPipeDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(4)
		start := time.Now()
		a.SetReadDeadline(start.Add(time.Second))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
		b.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := b.Write([]byte("123456"))
		if n != 4 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write into a full pipe: %d, %v", n, err)
		}
		a.SetReadDeadline(time.Time{})
		if n, err := a.Read(make([]byte, 9)); n != 4 || err != nil {
			t.Errorf("read after the deadline was lifted: %d, %v", n, err)
		}
	})
}

func TestListenSaysTaken(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(t.Context(), "127.0.0.1", Port(l.Addr())); err == nil {
		t.Errorf("second listener on the port: %v, want one plain line", err)
	}
}
