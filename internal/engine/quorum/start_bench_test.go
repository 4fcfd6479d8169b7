package quorum

import (
	"context"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
)

// BenchmarkStart is the time from Open to the first image of a fresh quorum of one on disk.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		o := format(b, vfs.OS(), b.TempDir(), true).options()
		b.StartTimer()
		q, err := Open(o)
		if err != nil {
			b.Fatal(err)
		}
		if err := q.Start(); err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if _, err := q.AwaitImage(ctx, func(i *image.Image) bool { return i.Features.MetadataVersion == 33 }); err != nil {
			b.Fatal(err)
		}
		cancel()
		b.StopTimer()
		q.Close()
		b.StartTimer()
	}
}

// BenchmarkDo is one operation after the other, each durable before it is answered.
func BenchmarkDo(b *testing.B) {
	q, err := Open(format(b, vfs.OS(), b.TempDir(), true).options())
	if err != nil {
		b.Fatal(err)
	}
	if err := q.Start(); err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	if _, err := q.AwaitImage(context.Background(), func(i *image.Image) bool { return !i.IsEmpty() }); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := setConfig(q, "k", "v"); err != nil {
			b.Fatal(err)
		}
	}
}
