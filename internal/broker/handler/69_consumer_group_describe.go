package handler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// consumerGroupDescribe serves ConsumerGroupDescribe for groups of the consumer protocol. Version 1 tells which protocol each member
// speaks.
func (d *GroupDesk) consumerGroupDescribe(r *server.Request) {
	req := api.NewConsumerGroupDescribeRequest()
	if !r.Decode(req) {
		return
	}
	resp := api.NewConsumerGroupDescribeResponse()
	img := d.image()
	refuse := func(name string, code wire.ErrorCode) {
		one := api.NewConsumerGroupDescribeResponseGroup()
		one.GroupID, one.ErrorCode = name, code
		resp.Groups = append(resp.Groups, one)
	}
	named := make([]string, 0, len(req.GroupIDs))
	for _, name := range req.GroupIDs {
		if name == "" {
			refuse(name, wire.ErrInvalidGroupID)
			continue
		}
		named = append(named, name)
	}
	if d.consumersOff() {
		resp.Groups = nil
		for _, name := range req.GroupIDs {
			refuse(name, wire.ErrUnsupportedVersion)
		}
		r.Answer(resp)
		return
	}
	partitions, names := d.byPartition(named)
	for _, p := range partitions {
		code := d.groups.Read(p, func(s *group.Shard) {
			resp.Groups = append(resp.Groups, s.DescribeConsumerGroups(names[p], img)...)
		})
		if code != wire.ErrNone {
			for _, name := range names[p] {
				refuse(name, coord.ClientError(code))
			}
		}
	}
	if req.IncludeAuthorizedOperations {
		for i := range resp.Groups {
			if g := &resp.Groups[i]; g.ErrorCode == wire.ErrNone {
				g.AuthorizedOperations = allGroupOperations
			}
		}
	}
	r.Answer(resp)
}
