package judge

import (
	_ "embed"

	"github.com/moldau-io/moldau/test/judge/pair"
)

//go:embed java/Judge.java
var javaSource []byte

// theirs is Kafka's shard in a Java process.
type theirs struct{ *pair.Kafka }

func startKafka(dir, classPath string) (theirs, error) {
	k, err := pair.Start(dir, classPath, javaSource, "org.apache.kafka.coordinator.group.Judge")
	return theirs{k}, err
}

func (k theirs) do(line string, _ request, _ []string) ([]string, error) { return k.Ask(line) }
