package txn

import (
	_ "embed"

	"github.com/moldau-io/moldau/test/judge/pair"
)

//go:embed java/Judge.java
var javaSource []byte

// theirs is Kafka's coordinator in a Java process.
type theirs struct{ *pair.Kafka }

func startKafka(dir, classPath string) (theirs, error) {
	k, err := pair.Start(dir, classPath, javaSource, "kafka.coordinator.transaction.Judge")
	return theirs{k}, err
}

func (k theirs) do(line string, _ request) ([]string, error) { return k.Ask(line) }
