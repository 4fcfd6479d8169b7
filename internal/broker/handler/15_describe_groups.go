package handler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// allGroupOperations are the operations on a group, as bits: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS. Without an
// authorizer everybody may do everything.
const allGroupOperations = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

// describeGroups serves DescribeGroups for classic groups. Groups that do not exist are Dead, and an error since 6.
func (d *GroupDesk) describeGroups(r *server.Request) {
	req := api.NewDescribeGroupsRequest()
	if !r.Decode(req) {
		return
	}
	resp := api.NewDescribeGroupsResponse()
	partitions, names := d.byPartition(req.Groups)
	for _, p := range partitions {
		code := d.groups.Read(p, func(s *group.Shard) {
			resp.Groups = append(resp.Groups, s.DescribeGroups(names[p], r.Version())...)
		})
		if code == wire.ErrNone {
			continue
		}
		for _, name := range names[p] {
			one := api.NewDescribeGroupsResponseGroup()
			one.GroupID, one.ErrorCode = name, coord.ClientError(code)
			resp.Groups = append(resp.Groups, one)
		}
	}
	if r.Version() >= 3 && req.IncludeAuthorizedOperations {
		for i := range resp.Groups {
			if g := &resp.Groups[i]; g.ErrorCode == wire.ErrNone {
				g.AuthorizedOperations = allGroupOperations
			}
		}
	}
	r.Answer(resp)
}
