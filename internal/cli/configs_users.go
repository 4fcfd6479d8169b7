package cli

import (
	"context"
	"crypto/pbkdf2"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// ipQuota is the one quota that addresses have.
const ipQuota = "connection_creation_rate"

// isUserQuota reports whether a config is a quota of users and clients.
func isUserQuota(key string) bool {
	return slices.Contains([]string{"producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate"}, key)
}

func isScram(key string) bool {
	return slices.ContainsFunc(scramMechanisms(), func(m scramMechanism) bool { return m.name == key })
}

// alterUsers changes quotas of users and clients, or the credentials of one user.
func (c *configsCommand) alterUsers(ctx context.Context, add map[string]string, remove []string) error {
	added := slices.Sorted(maps.Keys(add))
	unknown := func(keys []string, scramToo bool) string {
		var out []string
		for _, key := range keys {
			if !isUserQuota(key) && (scramToo || !isScram(key)) {
				out = append(out, key)
			}
		}
		return strings.Join(out, ",")
	}
	quotas := slices.ContainsFunc(append(slices.Clone(added), remove...), isUserQuota)
	if c.kinds[0] == clientsEntity || len(c.kinds) == 2 {
		if bad := unknown(added, true); bad != "" {
			return fail("Only quota configs can be added for 'clients' using --bootstrap-server. Unexpected config names: %s", bad)
		}
		if bad := unknown(remove, true); bad != "" {
			return fail("Only quota configs can be deleted for 'clients' using --bootstrap-server. Unexpected config names: %s", bad)
		}
	} else {
		if bad := unknown(added, false); bad != "" {
			return fail("Only quota and SCRAM credential configs can be added for 'users' using --bootstrap-server. Unexpected config names: %s", bad)
		}
		if bad := unknown(remove, false); bad != "" {
			return fail("Only quota and SCRAM credential configs can be deleted for 'users' using --bootstrap-server. Unexpected config names: %s", bad)
		}
		if slices.ContainsFunc(append(slices.Clone(added), remove...), isScram) {
			switch {
			case slices.Contains(c.names, ""):
				return fail("The use of --entity-default or --user-defaults is not allowed with User SCRAM Credentials using --bootstrap-server.")
			case quotas:
				return fail("Cannot alter both quota and SCRAM credential configs simultaneously for 'users' using --bootstrap-server.")
			}
		}
	}
	if quotas {
		return c.alterQuotas(ctx, add, remove)
	}
	return c.alterScram(ctx, c.names[0], add, remove)
}

// quotaEntities gives the kinds of entity the names of the quota API.
func quotaEntity(kind string) string {
	switch kind {
	case usersEntity:
		return "user"
	case clientsEntity:
		return "client-id"
	}
	return "ip"
}

// quotas asks for the quotas of the entities that were named.
func (c *configsCommand) quotas(ctx context.Context) ([]api.DescribeClientQuotasResponseEntry, error) {
	if len(c.names) > len(c.kinds) {
		return nil, fail("More entity names specified than entity types")
	}
	req := &api.DescribeClientQuotasRequest{Strict: true}
	for i, kind := range c.kinds {
		x := api.DescribeClientQuotasRequestComponent{EntityType: quotaEntity(kind)}
		switch {
		case i >= len(c.names):
			x.MatchType = 2 // any
		case c.names[i] == "":
			x.MatchType = 1 // the default
		default:
			x.Match = &c.names[i]
		}
		req.Components = append(req.Components, x)
	}
	m, err := c.line.brokers(ctx, "describeClientQuotas", req)
	if err != nil {
		return nil, err
	}
	r := m.(*api.DescribeClientQuotasResponse)
	return r.Entries, answered(int16(r.ErrorCode), r.ErrorMessage)
}

func (c *configsCommand) alterQuotas(ctx context.Context, add map[string]string, remove []string) error {
	if len(c.kinds) != len(c.names) {
		return fail("Exactly one entity name must be specified for every entity type")
	}
	entries, err := c.quotas(ctx)
	if err != nil {
		return err
	}
	old := map[string]bool{}
	if len(entries) > 0 {
		for _, v := range entries[0].Values {
			old[v.Key] = true
		}
	}
	var unknown []string
	for _, key := range remove {
		if !old[key] {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		return fail("Invalid config(s): %s", strings.Join(unknown, ","))
	}
	var entry api.AlterClientQuotasRequestEntry
	for i, kind := range c.kinds {
		e := api.AlterClientQuotasRequestEntryEntity{EntityType: quotaEntity(kind)}
		if c.names[i] != "" {
			e.EntityName = &c.names[i]
		}
		entry.Entity = append(entry.Entity, e)
	}
	for _, key := range slices.Sorted(maps.Keys(add)) {
		value, err := strconv.ParseFloat(strings.TrimSpace(add[key]), 64)
		if err != nil {
			return fail("Cannot parse quota configuration value for %s: %s", key, add[key])
		}
		entry.Ops = append(entry.Ops, api.AlterClientQuotasRequestEntryOp{Key: key, Value: value})
	}
	for _, key := range remove {
		entry.Ops = append(entry.Ops, api.AlterClientQuotasRequestEntryOp{Key: key, Remove: true})
	}
	m, err := c.line.brokers(ctx, "alterClientQuotas", &api.AlterClientQuotasRequest{Entries: []api.AlterClientQuotasRequestEntry{entry}})
	if err != nil {
		return err
	}
	for _, e := range m.(*api.AlterClientQuotasResponse).Entries {
		if err := answered(int16(e.ErrorCode), e.ErrorMessage); err != nil {
			return err
		}
	}
	return nil
}

var credential = regexp.MustCompile(`^(?:iterations=(-?[0-9]*),)?password=(.*)$`)

// alterScram sets and removes credentials of one user; passwords leave salted only.
func (c *configsCommand) alterScram(ctx context.Context, user string, add map[string]string, remove []string) error {
	req := &api.AlterUserScramCredentialsRequest{}
	rnd := newRand()
	for _, m := range scramMechanisms() {
		if slices.Contains(remove, m.name) {
			req.Deletions = append(req.Deletions, api.AlterUserScramCredentialsRequestDeletion{Name: user, Mechanism: m.code})
		}
		text, ok := add[m.name]
		if !ok {
			continue
		}
		parts := credential.FindStringSubmatch(text)
		if parts == nil {
			return fail("Invalid credential property %s=%s", strings.ReplaceAll(m.name, "-", "_"), text)
		}
		iterations := int64(defaultScramIterations)
		if parts[1] != "" && parts[1] != "-1" {
			var err error
			if iterations, err = strconv.ParseInt(parts[1], 10, 32); err != nil {
				return fail("For input string: \"%s\"", parts[1])
			}
		}
		if iterations < minScramIterations {
			return fail("Iterations %d is less than the minimum %d required for %s", iterations, minScramIterations, m.name)
		}
		salt := randomSalt(rnd)
		rounds := min(iterations, maxScramIterations) // the server refuses more; there is no need to make them
		salted, err := pbkdf2.Key(m.hash, parts[2], salt, int(rounds), m.hash().Size())
		if err != nil {
			return fmt.Errorf("salting the password: %w", err)
		}
		req.Upsertions = append(req.Upsertions, api.AlterUserScramCredentialsRequestUpsertion{Name: user, Mechanism: m.code, Iterations: int32(iterations), Salt: salt, SaltedPassword: salted})
	}
	m, err := c.line.brokers(ctx, "alterUserScramCredentials", req)
	if err != nil {
		return err
	}
	for _, r := range m.(*api.AlterUserScramCredentialsResponse).Results {
		if err := answered(int16(r.ErrorCode), r.ErrorMessage); err != nil {
			return err
		}
	}
	return nil
}

func (c *configsCommand) describeQuotas(ctx context.Context) error {
	entries, err := c.quotas(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var who []string
		for _, kind := range []struct{ entity, label string }{{"user", "user-principal"}, {"client-id", "client-id"}, {"ip", "ip"}} {
			for _, part := range e.Entity {
				switch {
				case part.EntityType != kind.entity:
				case part.EntityName == nil || *part.EntityName == "":
					who = append(who, "the default "+kind.label)
				default:
					who = append(who, kind.label+" '"+*part.EntityName+"'")
				}
			}
		}
		var values []string
		for _, v := range javaHashOrder(e.Values, func(v api.DescribeClientQuotasResponseEntryValue) uint32 { return javaStringHash(v.Key) }, 16) {
			values = append(values, v.Key+"="+javaFloat(v.Value, 64))
		}
		fmt.Fprintf(c.s.Out, "Quota configs for %s are %s\n", strings.Join(who, ", "), strings.Join(values, ", "))
	}
	return nil
}

// describeUsers shows quotas, and the credentials of users if no client and no default is meant.
func (c *configsCommand) describeUsers(ctx context.Context) error {
	if err := c.describeQuotas(ctx); err != nil {
		return err
	}
	if c.hasKind(clientsEntity) || slices.Contains(c.names, "") {
		return nil
	}
	req := &api.DescribeUserScramCredentialsRequest{Users: []api.DescribeUserScramCredentialsRequestUser{}}
	for _, name := range c.names {
		req.Users = append(req.Users, api.DescribeUserScramCredentialsRequestUser{Name: name})
	}
	m, err := c.line.brokers(ctx, "describeUserScramCredentials", req)
	if err != nil {
		return err
	}
	r := m.(*api.DescribeUserScramCredentialsResponse)
	if err := answered(int16(r.ErrorCode), r.ErrorMessage); err != nil {
		return err
	}
	for _, u := range r.Results {
		if u.ErrorCode == wire.ErrResourceNotFound { // the user has none
			continue
		}
		if err := answered(int16(u.ErrorCode), u.ErrorMessage); err != nil {
			class := strings.TrimPrefix(javaException(err), "org.apache.kafka.common.errors.")
			fmt.Fprintf(c.s.Out, "Error retrieving SCRAM credential configs for user-principal '%s': %s\n", u.User, class)
			continue
		}
		var out []string
		for _, i := range u.CredentialInfos {
			name := "UNKNOWN"
			for _, m := range scramMechanisms() {
				if m.code == i.Mechanism {
					name = m.name
				}
			}
			out = append(out, fmt.Sprintf("%s=iterations=%d", name, i.Iterations))
		}
		fmt.Fprintf(c.s.Out, "SCRAM credential configs for user-principal '%s' are %s\n", u.User, strings.Join(out, ", "))
	}
	return nil
}
