package conf

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

const combined = "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\n" +
	"controller.quorum.voters=1@localhost:9093\nlisteners=PLAINTEXT://:9092,CONTROLLER://:9093\n"

func mustParse(t *testing.T, text string) map[string]string {
	t.Helper()
	p, err := ParseProperties([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func load(t *testing.T, text string, overrides ...string) *Broker {
	t.Helper()
	b, _, err := Load(mustParse(t, combined+text), overrides)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func endpoints(eps []Endpoint) string {
	var out []string
	for _, e := range eps {
		host := e.Host
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		out = append(out, fmt.Sprintf("%s://%s:%d", e.Name, host, e.Port))
	}
	return strings.Join(out, ";")
}

// TestStart compares with what Kafka said of the same properties.
func TestStart(t *testing.T) {
	start := func(t *testing.T, d *datadriven.TestData) string {
		text := d.Input
		if d.HasArg("combined") {
			text = combined + text
		}
		static := mustParse(t, text)
		populateNodeID(static)
		b, _, err := newBroker(static, nil, nil) // without refusing what Kafka would serve
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("advertised %s\ncontroller %s\ninter-broker %s", endpoints(b.AdvertisedListeners()),
			endpoints(b.AdvertisedControllerListeners()), b.InterBrokerListener())
	}
	datadriven.RunTest(t, "testdata/start.txt", start)
	datadriven.RunTest(t, "testdata/start_groups.txt", start)
}

func TestDevDefaults(t *testing.T) {
	b, warnings, err := Load(DevDefaults(), []string{"listeners=PLAINTEXT://localhost:0,CONTROLLER://localhost:0"})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		if k, ok := lookupBrokerName(w.Key); !ok || k.State == Done {
			t.Errorf("warning %v", w)
		}
	}
	if !b.IsBroker() || !b.IsController() || b.NodeID() != 1 || b.LogDirs()[0] != "./moldau-data" || b.MetadataLogDir() != "./moldau-data" {
		t.Errorf("roles %v, node %d, dirs %v", b.List("process.roles"), b.NodeID(), b.LogDirs())
	}
	if l := b.BrokerListeners(); len(l) != 1 || l[0].Addr() != "localhost:0" || l[0].Protocol != "PLAINTEXT" {
		t.Errorf("listeners %v", l)
	}
	if b.Int("offsets.topic.replication.factor") != 1 || b.Int("transaction.state.log.min.isr") != 1 {
		t.Error("internal topics must have one replica")
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer": "authorizer.class.name",
		"remote.log.storage.system.enable=true":                                         "remote.log.storage.system.enable",
		"create.topic.policy.class.name=a.B":                                            "create.topic.policy.class.name",
		"listener.name.plaintext.principal.builder.class=a.B":                           "listener.name.plaintext.principal.builder.class",
		"listeners=SSL://:9092,CONTROLLER://:9093\nlistener.security.protocol.map=SSL:SSL,CONTROLLER:PLAINTEXT\nsecurity.inter.broker.protocol=SSL": "security protocol SSL",
	} {
		_, _, err := Load(mustParse(t, combined+text), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if b := load(t, "authorizer.class.name=\nremote.log.storage.system.enable=false"); b == nil {
		t.Error("defaults must not be refused")
	}
}

func TestWarnings(t *testing.T) {
	_, warnings, err := Load(mustParse(t, combined+"frob=1\nlog.preallocate=true\nnum.partitions=3\nbackground.threads=10\n"+
		"listener.name.plaintext.ssl.keystore.location=x\nlistener.name.plaintext.max.connections=9\nmax.connections=9\nlistener.name.plaintext.nope=1\nbroker.heartbeat.interval.ms=8000"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, w := range warnings {
		keys = append(keys, w.Key)
	}
	want := "broker.heartbeat.interval.ms frob listener.name.plaintext.max.connections listener.name.plaintext.nope listener.name.plaintext.ssl.keystore.location log.preallocate"
	if got := strings.Join(keys, " "); got != want {
		t.Errorf("warned of %s, want %s", got, want)
	}
}

func TestOverrides(t *testing.T) {
	b := load(t, "num.partitions=3", "num.partitions=4", "num.partitions=5", "broker.rack=a=b")
	if b.Int("num.partitions") != 5 || b.Text("broker.rack") != "a=b" {
		t.Errorf("partitions %d, rack %s", b.Int("num.partitions"), b.Text("broker.rack"))
	}
	if _, _, err := Load(mustParse(t, combined), []string{"num.partitions"}); err == nil {
		t.Error("an override without = was taken")
	}
}

func TestGettersPanicOnMistakes(t *testing.T) {
	b := load(t, "")
	for name, call := range map[string]func(){
		"unknown": func() { b.Int("no.such.key") },
		"type":    func() { b.Bool("num.partitions") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			call()
		}()
	}
}

func TestMillis(t *testing.T) {
	b := load(t, "log.retention.ms=-5\nlog.flush.interval.ms=1500")
	if b.Millis("transactional.id.expiration.ms").Hours() != 168 || b.Millis("log.flush.scheduler.interval.ms") != Forever {
		t.Error("millis")
	}
	if b.RetentionMs() != -1 || b.FlushMs() != 1500 || b.RollMs() != 604800000 {
		t.Errorf("retention %d flush %d roll %d", b.RetentionMs(), b.FlushMs(), b.RollMs())
	}
}
