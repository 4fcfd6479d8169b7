package handler_test

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// dialController connects to the controller's own listener.
func dialController(t *testing.T, n *embedded.Node) *adminClient {
	t.Helper()
	conn, err := net.Dial("tcp", n.ControllerAddr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &adminClient{t: t, conn: conn}
}

// TestQuotasAndScram: what either listener takes is in the image that the broker tells of.
func TestQuotasAndScram(t *testing.T) {
	n, broker := adminNode(t)
	for i, c := range []*adminClient{broker, dialController(t, n)} {
		user := fmt.Sprint("user-", i)
		var q api.AlterClientQuotasResponse
		c.call(1, &api.AlterClientQuotasRequest{Entries: []api.AlterClientQuotasRequestEntry{
			{Entity: []api.AlterClientQuotasRequestEntryEntity{{EntityType: "user", EntityName: &user}},
				Ops: []api.AlterClientQuotasRequestEntryOp{{Key: "producer_byte_rate", Value: 1000}}},
			{Entity: []api.AlterClientQuotasRequestEntryEntity{{EntityType: "ip", EntityName: new("no.such.host.invalid")}},
				Ops: []api.AlterClientQuotasRequestEntryOp{{Key: "connection_creation_rate", Value: 1}}}}}, &q)
		if len(q.Entries) != 2 || q.Entries[0].ErrorCode != wire.ErrNone || q.Entries[1].ErrorCode != wire.ErrInvalidRequest ||
			*q.Entries[1].ErrorMessage != "no.such.host.invalid is not a valid IP or resolvable host." {
			t.Fatalf("%+v", q.Entries)
		}
		broker.eventually(func() bool {
			var d api.DescribeClientQuotasResponse
			broker.call(1, &api.DescribeClientQuotasRequest{Strict: true, Components: []api.DescribeClientQuotasRequestComponent{{EntityType: "user", Match: &user}}}, &d)
			return len(d.Entries) == 1 && slices.Equal(d.Entries[0].Values, []api.DescribeClientQuotasResponseEntryValue{{Key: "producer_byte_rate", Value: 1000}})
		})
		var s api.AlterUserScramCredentialsResponse
		c.call(0, &api.AlterUserScramCredentialsRequest{Upsertions: []api.AlterUserScramCredentialsRequestUpsertion{
			{Name: user, Mechanism: 2, Iterations: 4096, Salt: []byte{1}, SaltedPassword: []byte{2}}}}, &s)
		if len(s.Results) != 1 || s.Results[0].ErrorCode != wire.ErrNone {
			t.Fatalf("%+v", s.Results)
		}
		c.eventually(func() bool {
			var d api.DescribeUserScramCredentialsResponse
			c.call(0, &api.DescribeUserScramCredentialsRequest{Users: []api.DescribeUserScramCredentialsRequestUser{{Name: user}}}, &d)
			return d.Results[0].ErrorCode == wire.ErrNone && d.Results[0].CredentialInfos[0].Mechanism == 2 && d.Results[0].CredentialInfos[0].Iterations == 4096
		})
	}
	var d api.DescribeClientQuotasResponse
	broker.call(1, &api.DescribeClientQuotasRequest{Components: []api.DescribeClientQuotasRequestComponent{{EntityType: "ip", MatchType: 2}, {EntityType: "user", MatchType: 2}}}, &d)
	if d.ErrorCode != wire.ErrInvalidRequest || d.Entries != nil {
		t.Errorf("a filter that cannot be: %v, %v", d.ErrorCode, d.Entries)
	}
}

// TestSecurityThatIsOff: ACLs and tokens are refused by both listeners as where there is neither authorizer nor authentication.
func TestSecurityThatIsOff(t *testing.T) {
	n, broker := adminNode(t)
	for _, c := range []*adminClient{broker, dialController(t, n)} {
		var da api.DescribeAclsResponse
		c.call(3, api.NewDescribeAclsRequest(), &da)
		var ca api.CreateAclsResponse
		c.call(3, &api.CreateAclsRequest{Creations: []api.CreateAclsRequestCreation{{ResourceName: "r"}, {ResourceName: "s"}}}, &ca)
		var xa api.DeleteAclsResponse
		c.call(3, &api.DeleteAclsRequest{Filters: []api.DeleteAclsRequestFilter{{}}}, &xa)
		if da.ErrorCode != wire.ErrSecurityDisabled || len(ca.Results) != 2 || ca.Results[1].ErrorCode != wire.ErrSecurityDisabled ||
			len(xa.FilterResults) != 1 || xa.FilterResults[0].ErrorCode != wire.ErrSecurityDisabled {
			t.Errorf("ACLs: %v, %v, %v", da.ErrorCode, ca.Results, xa.FilterResults)
		}
		const no = wire.ErrDelegationTokenRequestNotAllowed
		var ct api.CreateDelegationTokenResponse
		c.call(3, api.NewCreateDelegationTokenRequest(), &ct)
		var rt api.RenewDelegationTokenResponse
		c.call(2, api.NewRenewDelegationTokenRequest(), &rt)
		var et api.ExpireDelegationTokenResponse
		c.call(2, api.NewExpireDelegationTokenRequest(), &et)
		var dt api.DescribeDelegationTokenResponse
		c.call(3, api.NewDescribeDelegationTokenRequest(), &dt)
		if ct.ErrorCode != no || ct.PrincipalName != "ANONYMOUS" || rt.ErrorCode != no || et.ErrorCode != no || dt.ErrorCode != no {
			t.Errorf("tokens: %v, %v, %v, %v", ct.ErrorCode, rt.ErrorCode, et.ErrorCode, dt.ErrorCode)
		}
	}
}

// TestConfigsAtTheController: tools describe and change configurations at the controller, log levels included.
func TestConfigsAtTheController(t *testing.T) {
	n, broker := adminNode(t)
	broker.create("t", 1, "retention.ms", "77")
	c := dialController(t, n)
	configs := func(kind int8, name, key string) string {
		var d api.DescribeConfigsResponse
		c.call(4, &api.DescribeConfigsRequest{Resources: []api.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name, ConfigurationKeys: []string{key}}}}, &d)
		if len(d.Results) != 1 || d.Results[0].ErrorCode != wire.ErrNone || len(d.Results[0].Configs) != 1 {
			return fmt.Sprint(d.Results)
		}
		return *d.Results[0].Configs[0].Value
	}
	if got := configs(2, "t", "retention.ms"); got != "77" {
		t.Errorf("retention.ms %s", got)
	}
	alter := func(kind int8, name, key, value string) wire.ErrorCode {
		var a api.IncrementalAlterConfigsResponse
		c.call(1, &api.IncrementalAlterConfigsRequest{Resources: []api.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name,
			Configs: []api.IncrementalAlterConfigsRequestResourceConfig{{Name: key, Value: &value}}}}}, &a)
		return a.Responses[0].ErrorCode
	}
	if code := alter(2, "t", "retention.ms", "88"); code != wire.ErrNone {
		t.Errorf("alter: %v", code)
	}
	c.eventually(func() bool { return configs(2, "t", "retention.ms") == "88" })
	if code := alter(8, "x", "root", "INFO"); code != wire.ErrInvalidRequest {
		t.Errorf("a logger of no node: %v", code)
	}
	var u api.UnregisterControllerResponse
	broker.call(0, &api.UnregisterControllerRequest{ControllerID: 99}, &u)
	if u.ErrorCode != wire.ErrControllerIDNotRegistered {
		t.Errorf("unregister a controller that is not there: %v", u.ErrorCode)
	}
}
