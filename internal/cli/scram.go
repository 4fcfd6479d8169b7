package cli

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// scramMechanism is one of the two that Kafka knows (RFC 5802, RFC 7677).
type scramMechanism struct {
	name string
	code int8
	hash func() hash.Hash
}

func scramMechanisms() []scramMechanism {
	return []scramMechanism{{"SCRAM-SHA-256", 1, sha256.New}, {"SCRAM-SHA-512", 2, sha512.New}}
}

// Bounds of the iterations of a credential, and what it gets unless given.
const (
	minScramIterations     = 4096
	maxScramIterations     = 16384
	defaultScramIterations = 4096
)

// scramRecords turns the arguments of --add-scram into records.
func scramRecords(args []string, rnd *rand.Rand) ([]image.Record, error) {
	var out []image.Record
	for _, a := range args {
		r, err := scramRecord(strings.TrimSpace(a), rnd)
		if err != nil {
			return nil, err
		}
		out = append(out, image.Record{Message: r})
	}
	return out, nil
}

// scramRecord reads MECHANISM=[name=..,password=..,...].
func scramRecord(text string, rnd *rand.Rand) (*logrec.UserScramCredentialRecord, error) {
	name, config, ok := strings.Cut(text, "=")
	if !ok {
		return nil, fail("Failed to find equals sign in SCRAM argument '%s'", text)
	}
	all := scramMechanisms()
	i := slices.IndexFunc(all, func(m scramMechanism) bool { return m.name == name })
	switch {
	case i < 0:
		return nil, fail("The add-scram mechanism %s is not supported.", name)
	case !strings.HasPrefix(config, "["):
		return nil, fail("Expected configuration string to start with [")
	case !strings.HasSuffix(config, "]"):
		return nil, fail("Expected configuration string to end with ]")
	}
	config = strings.TrimPrefix(strings.TrimSuffix(config, "]"), "[")
	parts := map[string]string{}
	for _, part := range javaSplit(config, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fail("No equals sign found in SCRAM component: %s", part)
		}
		if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		parts[key] = value
	}
	return all[i].record(parts, rnd)
}

func (m scramMechanism) record(parts map[string]string, rnd *rand.Rand) (*logrec.UserScramCredentialRecord, error) {
	take := func(key string) (string, bool) {
		v, ok := parts[key]
		delete(parts, key)
		return v, ok
	}
	r := &logrec.UserScramCredentialRecord{Mechanism: m.code, Iterations: defaultScramIterations}
	var ok bool
	if r.Name, ok = take("name"); !ok {
		return nil, fail("You must supply 'name' to add-scram")
	}
	var err error
	salt, hasSalt := take("salt")
	if hasSalt {
		if r.Salt, err = javaBase64(salt); err != nil {
			return nil, fail("Failed to decode given salt: %s", salt)
		}
	}
	if text, given := take("iterations"); given {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, fail("Failed to parse iterations count: %s", text)
		}
		r.Iterations = int32(n)
	}
	password, hasPassword := take("password")
	saltedText, hasSalted := take("saltedpassword")
	var salted []byte
	switch {
	case hasPassword:
	case !hasSalted:
		return nil, fail("You must supply one of 'password' or 'saltedpassword' to add-scram")
	case !hasSalt:
		return nil, fail("You must supply 'salt' with 'saltedpassword' to add-scram")
	default:
		if salted, err = javaBase64(saltedText); err != nil {
			return nil, fail("Failed to decode given saltedPassword: %s", saltedText)
		}
	}
	if len(parts) > 0 {
		return nil, fail("Unknown SCRAM configurations: %s", strings.Join(slices.Sorted(maps.Keys(parts)), ", "))
	}
	if !hasSalt {
		r.Salt = randomSalt(rnd)
	}
	enum := strings.ReplaceAll(m.name, "-", "_")
	switch {
	case r.Iterations < minScramIterations:
		return nil, fail("The 'iterations' value must be >= %d for add-scram using %s", minScramIterations, enum)
	case r.Iterations > maxScramIterations:
		return nil, fail("The 'iterations' value must be <= %d for add-scram using %s", maxScramIterations, enum)
	}
	if hasPassword {
		if salted, err = pbkdf2.Key(m.hash, password, r.Salt, int(r.Iterations), m.hash().Size()); err != nil {
			return nil, fail("Failed to salt the password: %v", err)
		}
	}
	stored := m.hash()
	stored.Write(m.mac(salted, "Client Key"))
	r.StoredKey, r.ServerKey = stored.Sum(nil), m.mac(salted, "Server Key")
	return r, nil
}

func (m scramMechanism) mac(key []byte, text string) []byte {
	h := hmac.New(m.hash, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// randomSalt draws 130 bits in letters and digits, as Kafka does.
func randomSalt(rnd *rand.Rand) []byte {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	out := make([]byte, 26)
	for i := range out {
		out[i] = digits[rnd.IntN(len(digits))]
	}
	return out
}

// javaBase64 decodes as Java's basic decoder, which does not insist on padding.
func javaBase64(text string) ([]byte, error) {
	if n := len(text); n%4 != 0 || strings.HasSuffix(text, "=") {
		if trimmed := strings.TrimRight(text, "="); n%4 == 0 || trimmed == text {
			return base64.RawStdEncoding.DecodeString(trimmed)
		}
	}
	return base64.StdEncoding.DecodeString(text)
}

// javaSplit is String.split: empty pieces at the end are dropped.
func javaSplit(text, by string) []string {
	out := strings.Split(text, by)
	for len(out) > 1 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}
