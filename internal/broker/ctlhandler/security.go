package ctlhandler

import (
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// NoAuthorizer is the answer to DescribeAcls while nothing authorizes.
func NoAuthorizer() wire.Message {
	a := api.NewDescribeAclsResponse()
	a.ErrorCode, a.ErrorMessage = wire.ErrSecurityDisabled, new("No Authorizer is configured on the broker")
	return a
}

// noAuthorizer refuses changes of ACLs: without an authorizer they would have no effect. Entries that another controller wrote
// are kept in the image.
func (d *Desk) noAuthorizer(c *call) {
	req := c.info.NewRequest()
	if !c.decode(req) {
		return
	}
	if _, ok := req.(*api.DescribeAclsRequest); ok {
		c.answer(NoAuthorizer())
		return
	}
	c.answer(ErrorAnswer(req, c.version, &controller.Error{Code: wire.ErrSecurityDisabled, Text: "No Authorizer is configured."}))
}

// RefuseToken answers a request for delegation tokens. Over a connection that does not authenticate its peer none may be asked
// for; over another there are none without a secret to sign them.
func RefuseToken(req wire.Request, principal string, anonymous bool) wire.Message {
	code := wire.ErrDelegationTokenAuthDisabled
	if anonymous {
		code = wire.ErrDelegationTokenRequestNotAllowed
	}
	return tokenError(req, code, principal)
}

func tokenError(req wire.Request, code wire.ErrorCode, principal string) wire.Message {
	switch r := req.(type) {
	case *api.CreateDelegationTokenRequest:
		a := api.NewCreateDelegationTokenResponse()
		kind, name, ok := strings.Cut(principal, ":")
		if !ok {
			kind, name = "User", "ANONYMOUS"
		}
		a.ErrorCode = code
		a.TokenRequesterPrincipalType, a.TokenRequesterPrincipalName = kind, name
		if r.OwnerPrincipalName != nil && *r.OwnerPrincipalName != "" {
			kind, name = "", *r.OwnerPrincipalName
			if r.OwnerPrincipalType != nil {
				kind = *r.OwnerPrincipalType
			}
		}
		a.PrincipalType, a.PrincipalName = kind, name
		a.IssueTimestampMs, a.ExpiryTimestampMs, a.MaxTimestampMs, a.Hmac = -1, -1, -1, []byte{}
		return a
	case *api.RenewDelegationTokenRequest:
		a := api.NewRenewDelegationTokenResponse()
		a.ErrorCode, a.ExpiryTimestampMs = code, -1
		return a
	case *api.ExpireDelegationTokenRequest:
		a := api.NewExpireDelegationTokenResponse()
		a.ErrorCode, a.ExpiryTimestampMs = code, -1
		return a
	default:
		a := api.NewDescribeDelegationTokenResponse()
		a.ErrorCode = code
		return a
	}
}

// refuseToken serves the APIs of delegation tokens. What a broker forwards came to it over a connection that authenticates.
func (d *Desk) refuseToken(c *call) {
	req := c.info.NewRequest()
	if !c.decode(req) {
		return
	}
	c.answer(RefuseToken(req, c.principal, !c.forwarded && c.protocol == "PLAINTEXT"))
}

// DescribeScram tells which SCRAM credentials of an image there are: of the users asked for, or of all.
func DescribeScram(img *image.Image, req *api.DescribeUserScramCredentialsRequest) wire.Message {
	infos := map[string][]api.DescribeUserScramCredentialsResponseResultCredentialInfo{}
	var order []string
	for key, r := range img.Scram.All() {
		if infos[key.User] == nil {
			order = append(order, key.User)
		}
		infos[key.User] = append(infos[key.User], api.DescribeUserScramCredentialsResponseResultCredentialInfo{Mechanism: key.Mechanism, Iterations: r.Iterations})
	}
	slices.Sort(order)
	count := map[string]int{}
	if len(req.Users) > 0 {
		order = nil
		for _, u := range req.Users {
			if count[u.Name]++; count[u.Name] == 1 {
				order = append(order, u.Name)
			}
		}
	}
	a := api.NewDescribeUserScramCredentialsResponse()
	for _, user := range order {
		r := api.DescribeUserScramCredentialsResponseResult{User: user, ErrorMessage: new("")} // an empty text where there is none, as in Kafka's answer
		switch {
		case count[user] > 1:
			r.ErrorCode = wire.ErrDuplicateResource
			r.ErrorMessage = new("Cannot describe SCRAM credentials for the same user twice in a single request: " + user)
		case infos[user] == nil:
			r.ErrorCode = wire.ErrResourceNotFound
			r.ErrorMessage = new("Attempt to describe a user credential that does not exist: " + user)
		default:
			r.CredentialInfos = infos[user]
			slices.SortFunc(r.CredentialInfos, func(a, b api.DescribeUserScramCredentialsResponseResultCredentialInfo) int {
				return int(a.Mechanism) - int(b.Mechanism)
			})
		}
		a.Results = append(a.Results, r)
	}
	return a
}

func (d *Desk) describeScram(c *call) {
	req := new(api.DescribeUserScramCredentialsRequest)
	if c.decode(req) {
		c.answer(DescribeScram(d.o.Quorum.Image(), req))
	}
}
