package txn

import (
	_ "embed"
	"testing"

	"github.com/moldau-io/moldau/test/judge/pair"
)

//go:embed java/Judge.java
var javaSource []byte

// theirs is Kafka's coordinator in a Java process.
type theirs struct{ *pair.Kafka }

func startKafka(t *testing.T) theirs {
	t.Helper()
	return theirs{pair.Begin(t, javaSource, "kafka.coordinator.transaction.Judge")}
}

func (k theirs) do(line string, _ request) ([]string, error) { return k.Ask(line) }
