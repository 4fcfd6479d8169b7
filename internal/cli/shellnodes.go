package cli

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// shellNode is a directory or a file of the metadata shell's tree, which is made as one walks it.
type shellNode struct {
	text  string // of a file
	names func() []string
	child func(name string) *shellNode // nil: there is none
}

func (n *shellNode) isDir() bool { return n.names != nil }

// sorted returns the names of a directory in Java's order of strings.
func (n *shellNode) sorted() []string {
	names := slices.Clone(n.names())
	slices.Sort(names)
	return names
}

// print writes a file's text, or a directory's tree.
func (n *shellNode) print(w io.Writer, depth int) {
	indent := strings.Repeat("  ", depth)
	if !n.isDir() {
		fmt.Fprintf(w, "%s%s\n", indent, n.text)
		return
	}
	for _, name := range n.sorted() {
		fmt.Fprintf(w, "%s%s:\n", indent, name)
		if c := n.child(name); c != nil {
			c.print(w, depth+1)
		}
	}
}

func leaf(format string, args ...any) *shellNode {
	return &shellNode{text: fmt.Sprintf(format, args...)}
}

// fixedDir is a directory whose children are known.
func fixedDir(children map[string]func() *shellNode) *shellNode {
	return &shellNode{
		names: func() []string { return slices.Collect(maps.Keys(children)) },
		child: func(name string) *shellNode {
			if make, ok := children[name]; ok {
				return make()
			}
			return nil
		},
	}
}

// rootNode is the tree over an image: Kafka's nodes, by Kafka's names.
func rootNode(im *image.Image) *shellNode {
	return fixedDir(map[string]func() *shellNode{
		"local": func() *shellNode {
			return fixedDir(map[string]func() *shellNode{
				"version":  func() *shellNode { return leaf("%s", Version) },
				"commitId": func() *shellNode { return leaf("unknown") },
			})
		},
		"image": func() *shellNode { return imageNode(im) },
	})
}

func imageNode(im *image.Image) *shellNode {
	return fixedDir(map[string]func() *shellNode{
		"provenance":      func() *shellNode { return provenanceNode(im.Provenance) },
		"features":        func() *shellNode { return featuresNode(im.Features) },
		"cluster":         func() *shellNode { return clusterNode(im.Cluster) },
		"topics":          func() *shellNode { return topicsNode(im.Topics) },
		"configs":         func() *shellNode { return configsNode(im.Configs) },
		"clientQuotas":    func() *shellNode { return quotasNode(im.Quotas) },
		"acls":            func() *shellNode { return aclsNode(im.ACLs) },
		"scram":           func() *shellNode { return scramNode(im.Scram) },
		"delegationToken": func() *shellNode { return tokensNode(im.Tokens) },
		"producerIds": func() *shellNode {
			return fixedDir(map[string]func() *shellNode{"nextProducerId": func() *shellNode { return leaf("%d", im.ProducerIDs.Next) }})
		},
	})
}

func provenanceNode(p image.Provenance) *shellNode {
	at := time.UnixMilli(p.TimestampMs).UTC().Format("2006-01-02T15:04:05.999Z[UTC]")
	return leaf("offset %d, epoch %d, time %s", p.Offset, p.Epoch, at)
}

func featuresNode(f *image.Features) *shellNode {
	const prefix = "finalized_"
	return &shellNode{
		names: func() []string {
			out := []string{"metadataVersion"}
			for _, name := range f.Names() {
				if name != image.MetadataVersionFeature {
					out = append(out, prefix+name)
				}
			}
			return out
		},
		child: func(name string) *shellNode {
			feature, ok := strings.CutPrefix(name, prefix)
			switch {
			case name == "metadataVersion" && f.MetadataVersion == 0:
				return leaf("Optional.empty")
			case name == "metadataVersion":
				return leaf("Optional[%s]", f.MetadataVersion)
			case ok && feature != image.MetadataVersionFeature:
				return leaf("%d", f.Level(feature))
			case ok:
				return leaf("0")
			}
			return nil
		},
	}
}

func clusterNode(c *image.Cluster) *shellNode {
	byID := func(ids []id.BrokerID, show func(id.BrokerID) *shellNode) func() *shellNode {
		return func() *shellNode {
			return &shellNode{
				names: func() []string {
					var out []string
					for _, n := range ids {
						out = append(out, strconv.Itoa(int(n)))
					}
					return out
				},
				child: func(name string) *shellNode {
					n, err := strconv.ParseInt(name, 10, 32)
					if err != nil {
						return nil
					}
					return show(id.BrokerID(n))
				},
			}
		}
	}
	return fixedDir(map[string]func() *shellNode{
		"brokers": byID(c.BrokerIDs(), func(n id.BrokerID) *shellNode {
			if b := c.Broker(n); b != nil {
				return leaf("%s", brokerText(b))
			}
			return nil
		}),
		"controllers": byID(c.ControllerIDs(), func(n id.BrokerID) *shellNode {
			if k := c.Controller(n); k != nil {
				return leaf("ControllerRegistration(id=%d, incarnationId=%s, zkMigrationReady=%t, listeners=[%s], supportedFeatures={%s})",
					k.ID, k.IncarnationID, k.ZkMigrationReady, endpointsText(k.Endpoints), rangesText(k.Features))
			}
			return nil
		}),
	})
}

// brokerText is Kafka's text of a broker registration.
func brokerText(b *image.Broker) string {
	rack := "Optional.empty"
	if b.Rack != nil {
		rack = "Optional[" + *b.Rack + "]"
	}
	directories := slices.Clone(b.Directories)
	cordoned := "null"
	if b.CordonedDirectories != nil {
		cordoned = javaList(sortedUUIDs(b.CordonedDirectories))
	}
	return fmt.Sprintf("BrokerRegistration(id=%d, epoch=%d, incarnationId=%s, listeners=[%s], supportedFeatures={%s}, rack=%s, fenced=%t, "+
		"inControlledShutdown=%t, isMigratingZkBroker=%t, directories=%s, cordonedDirectories=%s)", b.ID, b.Epoch, b.IncarnationID,
		endpointsText(b.Endpoints), rangesText(b.Features), rack, b.Fenced, b.InControlledShutdown, b.IsMigratingZkBroker,
		javaList(sortedUUIDs(directories)), cordoned)
}

// sortedUUIDs are ids in Java's order, which compares them as two signed numbers.
func sortedUUIDs(ids []id.UUID) []id.UUID {
	out := slices.Clone(ids)
	slices.SortFunc(out, func(a, b id.UUID) int {
		a[0], a[8], b[0], b[8] = a[0]^0x80, a[8]^0x80, b[0]^0x80, b[8]^0x80
		return slices.Compare(a[:], b[:])
	})
	return out
}

func endpointsText(list []image.Endpoint) string {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b image.Endpoint) int { return strings.Compare(a.Name, b.Name) })
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = fmt.Sprintf("Endpoint(listenerName='%s', securityProtocol=%s, host='%s', port=%d)", e.Name,
			enumName([]string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}, int(e.SecurityProtocol)), e.Host, e.Port)
	}
	return strings.Join(out, ", ")
}

func enumName(names []string, code int) string {
	if code >= 0 && code < len(names) {
		return names[code]
	}
	return "UNKNOWN"
}

func rangesText(list []image.VersionRange) string {
	out := make([]string, len(list))
	for i, r := range list {
		switch {
		case r.Min == r.Max:
			out[i] = fmt.Sprintf("%s: %d", r.Name, r.Min)
		case r.Max == 1<<15-1:
			out[i] = fmt.Sprintf("%s: %d+", r.Name, r.Min)
		default:
			out[i] = fmt.Sprintf("%s: %d-%d", r.Name, r.Min, r.Max)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func topicsNode(t *image.Topics) *shellNode {
	return fixedDir(map[string]func() *shellNode{
		"byName": func() *shellNode {
			return &shellNode{names: t.Names, child: func(name string) *shellNode { return topicNode(t.ByName(name)) }}
		},
		"byId": func() *shellNode {
			return &shellNode{
				names: func() []string {
					var out []string
					for topic := range t.All() {
						out = append(out, topic.ID.String())
					}
					return out
				},
				child: func(name string) *shellNode {
					u, err := id.ParseUUID(name)
					if err != nil {
						return nil
					}
					return topicNode(t.ByID(u))
				},
			}
		},
	})
}

func topicNode(t *image.Topic) *shellNode {
	if t == nil {
		return nil
	}
	return &shellNode{
		names: func() []string {
			out := []string{"name", "id"}
			for _, p := range t.Partitions {
				out = append(out, strconv.Itoa(int(p.ID)))
			}
			return out
		},
		child: func(name string) *shellNode {
			switch name {
			case "name":
				return leaf("%s", t.Name)
			case "id":
				return leaf("%s", t.ID)
			}
			n, err := strconv.ParseInt(name, 10, 32)
			if err != nil {
				return nil
			}
			p := t.Partition(int32(n))
			if p == nil {
				return nil
			}
			return leaf("PartitionRegistration(replicas=%s, directories=%s, isr=%s, removingReplicas=%s, addingReplicas=%s, elr=%s, lastKnownElr=%s, "+
				"leader=%d, leaderRecoveryState=%s, leaderEpoch=%d, partitionEpoch=%d)", javaList(p.Replicas), javaList(p.Directories), javaList(p.ISR),
				javaList(p.Removing), javaList(p.Adding), javaList(p.ELR), javaList(p.LastKnownELR), p.Leader,
				enumName([]string{"RECOVERED", "RECOVERING"}, int(p.RecoveryState)), p.LeaderEpoch, p.PartitionEpoch)
		},
	}
}

func configsNode(c *image.Configs) *shellNode {
	name := func(r image.ConfigResource) string {
		if r.Name == "" {
			return r.Type.String()
		}
		return r.Type.String() + ":" + r.Name
	}
	types := []image.ResourceType{image.ResourceBrokerLogger, image.ResourceBroker, image.ResourceTopic, image.ResourceClientMetrics,
		image.ResourceGroup, image.ResourceUnknown}
	return &shellNode{
		names: func() []string {
			var out []string
			for r := range c.All() {
				out = append(out, name(r))
			}
			return out
		},
		child: func(text string) *shellNode {
			for _, t := range types {
				rest, ok := strings.CutPrefix(text, t.String())
				resource, named := strings.CutPrefix(rest, ":")
				if !ok || rest != "" && !named {
					continue
				}
				values := c.Of(image.ConfigResource{Type: t, Name: resource})
				if values == nil {
					return nil
				}
				return textDir(values)
			}
			return nil
		},
	}
}

// textDir is a directory of files with one value each.
func textDir(values map[string]string) *shellNode {
	return &shellNode{
		names: func() []string { return slices.Collect(maps.Keys(values)) },
		child: func(name string) *shellNode {
			if v, ok := values[name]; ok {
				return &shellNode{text: v}
			}
			return nil
		},
	}
}

// quotaName names an entity. As in Kafka the defaults of a type have no part in it.
func quotaName(e *image.QuotaEntity) string {
	escape := strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`)
	var out []string
	for _, kind := range []struct{ entity, label string }{{"client-id", "clientId"}, {"ip", "ip"}, {"user", "user"}} {
		for _, part := range e.Entity {
			if part.EntityType == kind.entity && part.EntityName != nil {
				out = append(out, kind.label+"("+escape.Replace(*part.EntityName)+")")
			}
		}
	}
	return strings.Join(out, "_")
}

func quotasNode(q *image.Quotas) *shellNode {
	return &shellNode{
		names: func() []string {
			var out []string
			for e := range q.All() {
				out = append(out, quotaName(e))
			}
			return out
		},
		child: func(name string) *shellNode {
			for e := range q.All() {
				whole := !slices.ContainsFunc(e.Entity, func(p logrec.ClientQuotaRecordEntity) bool { return p.EntityName == nil })
				if whole && quotaName(e) == name {
					values := map[string]string{}
					for key, v := range e.Values {
						values[key] = javaFloat(v, 64)
					}
					return textDir(values)
				}
			}
			return nil
		},
	}
}

func aclsNode(a *image.ACLs) *shellNode {
	resources := []string{"UNKNOWN", "ANY", "TOPIC", "GROUP", "CLUSTER", "TRANSACTIONAL_ID", "DELEGATION_TOKEN", "USER"}
	patterns := []string{"UNKNOWN", "ANY", "MATCH", "LITERAL", "PREFIXED"}
	operations := []string{"UNKNOWN", "ANY", "ALL", "READ", "WRITE", "CREATE", "DELETE", "ALTER", "DESCRIBE", "CLUSTER_ACTION", "DESCRIBE_CONFIGS",
		"ALTER_CONFIGS", "IDEMPOTENT_WRITE", "CREATE_TOKENS", "DESCRIBE_TOKENS", "TWO_PHASE_COMMIT"}
	permissions := []string{"UNKNOWN", "ANY", "DENY", "ALLOW"}
	return fixedDir(map[string]func() *shellNode{"byId": func() *shellNode {
		values := map[string]string{}
		for u, r := range a.All() {
			values[u.String()] = fmt.Sprintf("StandardAcl[resourceType=%s, resourceName=%s, patternType=%s, principal=%s, host=%s, operation=%s, permissionType=%s]",
				enumName(resources, int(r.ResourceType)), r.ResourceName, enumName(patterns, int(r.PatternType)), r.Principal, r.Host,
				enumName(operations, int(r.Operation)), enumName(permissions, int(r.PermissionType)))
		}
		return textDir(values)
	}})
}

func scramNode(s *image.Scram) *shellNode {
	children := map[string]func() *shellNode{}
	for _, m := range scramMechanisms() {
		children[m.name] = func() *shellNode {
			values := map[string]string{}
			for key, r := range s.All() {
				if key.Mechanism == m.code {
					values[key.User] = fmt.Sprintf("ScramCredentialData(salt=%s, storedKey=%s, serverKey=%s, iterations=%d)",
						hex.EncodeToString(r.Salt), hex.EncodeToString(r.StoredKey), hex.EncodeToString(r.ServerKey), r.Iterations)
				}
			}
			return textDir(values)
		}
	}
	return fixedDir(children)
}

func tokensNode(t *image.Tokens) *shellNode {
	values := map[string]string{}
	for tokenID, r := range t.All() {
		values[tokenID] = fmt.Sprintf("DelegationTokenDatatokenId=%s(owner=%s(tokenRequester=%s(renewers=%s, issueTimestamp=%d, maxTimestamp=%d), expiryTimestamp=%d",
			r.TokenID, r.Owner, r.Requester, strings.Join(r.Renewers, " "), r.IssueTimestamp, r.MaxTimestamp, r.ExpirationTimestamp)
	}
	return textDir(values)
}
