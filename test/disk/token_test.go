package disk

import (
	"bytes"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// withSASL gives Apache Kafka one more listener, at which users prove who they are, and delegation tokens.
func (p *place) withSASL() []string {
	controller := fmt.Sprintf("localhost:%d", p.port+101)
	all := "PLAINTEXT://" + p.addr + ",CONTROLLER://" + controller + ",SASL://" + p.saslAddr()
	return []string{"listeners=" + all, "advertised.listeners=" + all, "sasl.enabled.mechanisms=SCRAM-SHA-256",
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT", "delegation.token.secret.key=of this test",
		"listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;"}
}

func (p *place) saslAddr() string { return fmt.Sprintf("localhost:%d", p.saslPort) }

// login connects as a user that writer.security has made, at whichever product.
func (f *filesTest) login(user string) *kgo.Client {
	f.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.p.saslAddr()), kgo.SASL(scram.Auth{User: user, Pass: "secret"}.AsSha256Mechanism()))
	f.must(err, "a client")
	f.until("log in as "+user, func() bool { return cl.Ping(f.ctx) == nil }) // the broker learns of a user a moment after he was made
	return cl
}

// token lets Apache Kafka make a delegation token. Moldau has none, and carries those of others.
func (f *filesTest) token() {
	if f.p.running != kafka {
		return
	}
	cl := f.login(f.tag)
	defer cl.Close()
	resp, err := kmsg.NewPtrCreateDelegationTokenRequest().RequestWith(f.ctx, cl)
	f.must(err, "make a token")
	f.must(kerr.ErrorForCode(resp.ErrorCode), "make a token")
	f.left["token of "+f.tag] = fmt.Sprintf("%s %x until %d", resp.TokenID, resp.HMAC, resp.MaxTimestamp)
}

// tokensAreThere: Apache Kafka finds the users, also those that Moldau made, and the tokens in the metadata that Moldau left.
func (f *filesTest) tokensAreThere(users ...string) {
	if f.p.running != kafka {
		return
	}
	found := map[string]string{}
	for _, user := range users {
		cl := f.login(user)
		resp, err := kmsg.NewPtrDescribeDelegationTokenRequest().RequestWith(f.ctx, cl)
		cl.Close()
		f.must(err, "describe tokens")
		f.must(kerr.ErrorForCode(resp.ErrorCode), "describe tokens")
		for _, t := range resp.TokenDetails {
			found["token of "+t.PrincipalName] = fmt.Sprintf("%s %x until %d", t.TokenID, bytes.Clone(t.HMAC), t.MaxTimestamp)
		}
	}
	for name, want := range f.left {
		if len(name) > 6 && name[:6] == "token " && found[name] != want {
			f.Errorf("the %s is %q, was %q", name, found[name], want)
		}
	}
	if len(found) == 0 {
		f.Error("no tokens")
	}
}
