package handler

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// listTransactions serves ListTransactions for the transactional ids whose coordinator is this broker: by state and producer id
// (KIP-664), by age since 1 (KIP-994), by pattern since 2 (KIP-1152). Patterns are RE2, here as in Apache Kafka.
func (d *TxnDesk) listTransactions(req *server.Request) {
	in := api.NewListTransactionsRequest()
	if !req.Decode(in) {
		return
	}
	out := api.NewListTransactionsResponse()
	var pattern *regexp.Regexp
	if in.TransactionalIDPattern != nil && *in.TransactionalIDPattern != "" {
		var err error
		if pattern, err = wholePattern(*in.TransactionalIDPattern); err != nil {
			out.ErrorCode = wire.ErrInvalidRegularExpression
			req.Answer(out)
			return
		}
	}
	for _, state := range in.StateFilters {
		if !txn.KnownState(state) && !slices.Contains(out.UnknownStateFilters, state) {
			out.UnknownStateFilters = append(out.UnknownStateFilters, state)
		}
	}
	now := time.Now().UnixMilli()
	code := d.d.Txns.ReadAll(func(s *txn.Shard) {
		s.List(func(name string, t *txn.Transaction) {
			if listed(in, pattern, now, name, t) {
				out.TransactionStates = append(out.TransactionStates, api.ListTransactionsResponseTransactionState{TransactionalID: name,
					ProducerID: int64(t.ProducerID), TransactionState: t.State.String()})
			}
		})
	})
	if code != wire.ErrNone {
		out = api.NewListTransactionsResponse()
		out.ErrorCode = coord.ClientError(code)
	}
	req.Answer(out)
}

// listed reports whether a transaction passes all filters. By its age it does if it began longer ago, to the millisecond; one that
// never began is of all ages.
func listed(in *api.ListTransactionsRequest, pattern *regexp.Regexp, nowMs int64, name string, t *txn.Transaction) bool {
	switch {
	case len(in.ProducerIDFilters) > 0 && !slices.Contains(in.ProducerIDFilters, int64(t.ProducerID)):
	case len(in.StateFilters) > 0 && !slices.Contains(in.StateFilters, t.State.String()):
	case in.DurationFilter >= 0 && nowMs-t.StartMs <= in.DurationFilter:
	case pattern != nil && !pattern.MatchString(name):
	default:
		return true
	}
	return false
}

// wholePattern compiles a pattern that has to match a name from its beginning to its end.
func wholePattern(pattern string) (*regexp.Regexp, error) {
	// What is invalid by itself must not become valid by what is put around it, nor the other way round: "a)(b" and "\Qa".
	alone, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + alone.String() + `)\z`)
}
