package handler

import (
	"slices"
	"sync"

	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// deleteGroups serves DeleteGroups: one decision per partition that holds groups of the request.
func (d *GroupDesk) deleteGroups(r *server.Request) {
	req := api.NewDeleteGroupsRequest()
	if !r.Decode(req) {
		return
	}
	resp := api.NewDeleteGroupsResponse()
	seen := make(map[string]bool, len(req.GroupsNames))
	unique := slices.DeleteFunc(req.GroupsNames, func(name string) bool {
		was := seen[name]
		seen[name] = true
		return was
	})
	partitions, names := d.byPartition(unique)
	if len(partitions) == 0 {
		r.Answer(resp)
		return
	}
	var mu sync.Mutex // guards left and resp: the partitions answer from different goroutines
	left := len(partitions)
	for _, p := range partitions {
		d.do(r, p, func(body any, code wire.ErrorCode) {
			mu.Lock()
			defer mu.Unlock()
			results, ok := body.([]api.DeleteGroupsResponseResult)
			if !ok {
				for _, name := range names[p] {
					results = append(results, api.DeleteGroupsResponseResult{GroupID: name, ErrorCode: coord.ClientError(code)})
				}
			}
			resp.Results = append(resp.Results, results...)
			if left--; left == 0 {
				r.Answer(resp)
			}
		}, func(s *group.Shard, t group.Turn) shard.Result { return s.DeleteGroups(t, names[p]) })
	}
}
