package judge

import (
	_ "embed"
	"testing"

	"github.com/moldau-io/moldau/test/judge/pair"
)

//go:embed java/Judge.java
var javaSource []byte

// theirs is Kafka's shard in a Java process.
type theirs struct{ *pair.Kafka }

func startKafka(t *testing.T) theirs {
	t.Helper()
	return theirs{pair.Begin(t, javaSource, "org.apache.kafka.coordinator.group.Judge")}
}

func (k theirs) do(line string, _ pair.Request, _ []string) ([]string, error) { return k.Ask(line) }
