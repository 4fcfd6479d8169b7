package handler

import (
	"github.com/moldau-io/moldau/internal/broker/ctlhandler"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// delegationTokens refuses the four APIs of delegation tokens (38 to 41, KIP-48): over a connection without authentication
// nobody may ask for a token, and there are no others yet.
func (d *AdminDesk) delegationTokens(r *server.Request) {
	info, ok := api.Lookup(r.Key())
	if !ok {
		r.Close("API without a description")
		return
	}
	req := info.NewRequest()
	if r.Decode(req) {
		r.Answer(ctlhandler.RefuseToken(req, r.Conn.Principal, r.Conn.SecurityProtocol == "PLAINTEXT"))
	}
}
