package controller

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// SCRAM mechanisms (KIP-554) and the iterations that are accepted for both.
const (
	scramSHA256        = 1
	scramSHA512        = 2
	minScramIterations = 4096
	maxScramIterations = 16384
)

// alterScram sets and removes SCRAM credentials: one change of one user in a request. What a client sends is the salted
// password; kept are the keys that RFC 5802 derives from it.
func (c *Controller) alterScram(r *api.AlterUserScramCredentialsRequest) Decision {
	supported := c.img.Features.MetadataVersion.ScramSupported()
	refused := map[string]*Error{}
	var failed []string // users in the order of their errors
	fail := func(user string, e *Error) {
		refused[user] = e
		failed = append(failed, user)
	}
	const twice = "A user credential cannot be altered twice in the same request"
	planned := map[string]bool{}
	admit := func(user string, check func() *Error) {
		switch {
		case refused[user] != nil:
		case planned[user]:
			delete(planned, user)
			fail(user, errorf(wire.ErrDuplicateResource, twice))
		case !supported:
			fail(user, errorf(wire.ErrUnsupportedVersion, "The current metadata.version does not support SCRAM"))
		default:
			if e := check(); e != nil {
				fail(user, e)
			} else {
				planned[user] = true
			}
		}
	}
	for _, d := range r.Deletions {
		admit(d.Name, func() *Error {
			if e := checkScram(d.Name, d.Mechanism); e != nil {
				return e
			}
			if c.img.Scram.Get(image.ScramKey{User: d.Name, Mechanism: d.Mechanism}) == nil {
				return errorf(wire.ErrResourceNotFound, "Attempt to delete a user credential that does not exist")
			}
			return nil
		})
	}
	for i := range r.Upsertions {
		u := &r.Upsertions[i]
		admit(u.Name, func() *Error {
			e := checkScram(u.Name, u.Mechanism)
			switch {
			case e != nil:
				return e
			case u.Iterations < minScramIterations:
				return errorf(wire.ErrUnacceptableCredential, "Too few iterations")
			case u.Iterations > maxScramIterations:
				return errorf(wire.ErrUnacceptableCredential, "Too many iterations")
			}
			return nil
		})
	}
	answer := api.NewAlterUserScramCredentialsResponse()
	add := func(user string, e *Error) {
		answer.Results = append(answer.Results, api.AlterUserScramCredentialsResponseResult{User: user, ErrorCode: e.code(), ErrorMessage: e.Message()})
	}
	var records []image.Record
	for _, d := range r.Deletions {
		if planned[d.Name] {
			add(d.Name, nil)
			records = append(records, image.Record{Message: &logrec.RemoveUserScramCredentialRecord{Name: d.Name, Mechanism: d.Mechanism}})
		}
	}
	for i := range r.Upsertions {
		u := &r.Upsertions[i]
		if !planned[u.Name] {
			continue
		}
		if len(u.SaltedPassword) == 0 { // no key: an error of Java's crypto, which says nothing to the client
			fail(u.Name, &Error{Code: wire.ErrUnknownServerError})
			continue
		}
		add(u.Name, nil)
		records = append(records, image.Record{Message: scramRecord(u)})
	}
	for _, user := range failed {
		add(user, refused[user])
	}
	return Decision{Records: records, Atomic: true, Answer: answer}
}

func checkScram(user string, mechanism int8) *Error {
	switch {
	case user == "":
		return errorf(wire.ErrUnacceptableCredential, "Username must not be empty")
	case mechanism != scramSHA256 && mechanism != scramSHA512:
		return errorf(wire.ErrUnsupportedSaslMechanism, "Unknown SCRAM mechanism")
	}
	return nil
}

// scramRecord derives StoredKey and ServerKey. The request's bytes belong to its frame, and so are copied.
func scramRecord(u *api.AlterUserScramCredentialsRequestUpsertion) *logrec.UserScramCredentialRecord {
	newHash := sha256.New
	if u.Mechanism == scramSHA512 {
		newHash = sha512.New
	}
	client := keyed(newHash, u.SaltedPassword, "Client Key")
	h := newHash()
	h.Write(client)
	return &logrec.UserScramCredentialRecord{Name: u.Name, Mechanism: u.Mechanism, Salt: append([]byte{}, u.Salt...),
		StoredKey: h.Sum(nil), ServerKey: keyed(newHash, u.SaltedPassword, "Server Key"), Iterations: u.Iterations}
}

func keyed(newHash func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(newHash, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
