package ctlhandler

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// lookupTimeout bounds the time for all host names of one request.
const lookupTimeout = 5 * time.Second

// alterClientQuotas hands AlterClientQuotas to the controller. Quotas of an address may name a host (KIP-612); that the name has
// an address is looked up here, where waiting holds up nobody else, and entries without one are answered for and left out.
func (d *Desk) alterClientQuotas(c *call) {
	req := new(api.AlterClientQuotasRequest)
	if !c.decode(req) {
		return
	}
	hosts := hostNames(req)
	if len(hosts) == 0 {
		d.submitQuotas(c, req, nil)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	unknown := map[string]bool{}
	for host := range hosts {
		if _, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			unknown[host] = true
		}
	}
	d.submitQuotas(c, req, unknown)
}

// hostNames are the names among addresses that have quotas.
func hostNames(req *api.AlterClientQuotasRequest) map[string]bool {
	out := map[string]bool{}
	for i := range req.Entries {
		if host, ok := quotaHost(&req.Entries[i]); ok {
			if _, err := netip.ParseAddr(host); err != nil {
				out[host] = true
			}
		}
	}
	return out
}

// quotaHost is the address or name that an entry is about.
func quotaHost(e *api.AlterClientQuotasRequestEntry) (string, bool) {
	if len(e.Entity) != 1 || e.Entity[0].EntityType != controller.QuotaIP || e.Entity[0].EntityName == nil {
		return "", false
	}
	return *e.Entity[0].EntityName, *e.Entity[0].EntityName != ""
}

func (d *Desk) submitQuotas(c *call, req *api.AlterClientQuotasRequest, unknown map[string]bool) {
	rest := &api.AlterClientQuotasRequest{ValidateOnly: req.ValidateOnly}
	told := map[string]int{}
	var refused []api.AlterClientQuotasResponseEntry
	for i := range req.Entries {
		e := &req.Entries[i]
		host, ok := quotaHost(e)
		if !ok || !unknown[host] {
			rest.Entries = append(rest.Entries, *e)
			continue
		}
		if n, twice := told[host]; twice {
			refused[n].ErrorMessage = new("Ignoring duplicate entity ClientQuotaEntity(entries={ip=" + host + "})")
			continue
		}
		told[host] = len(refused)
		refused = append(refused, api.AlterClientQuotasResponseEntry{ErrorCode: wire.ErrInvalidRequest,
			ErrorMessage: new(host + " is not a valid IP or resolvable host."),
			Entity:       []api.AlterClientQuotasResponseEntryEntity{{EntityType: controller.QuotaIP, EntityName: &host}}})
	}
	d.o.Quorum.Submit(quorum.Request{Message: rest, APIVersion: c.version, Forwarded: c.forwarded, ReadCommitted: true}, func(o quorum.Outcome) {
		defer c.r.Rescue()
		if o.Err != nil {
			c.refuse(req, o.Err)
			return
		}
		a := o.Answer.(*api.AlterClientQuotasResponse)
		a.Entries = append(a.Entries, refused...)
		c.answer(a)
	})
}
