package ctlhandler

import (
	"maps"
	"slices"
	"strconv"

	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

func decimal(n int8) string { return strconv.Itoa(int(n)) }

// ErrorAnswer is what an API answers when its whole request is refused: some have one place for an error, others repeat it for
// each of their parts.
func ErrorAnswer(req wire.Request, version int16, e *controller.Error) wire.Message {
	code, text := e.Code, e.Message()
	if text != nil && (code == wire.ErrUnknownServerError || *text == code.Message()) {
		text = nil // nothing particular, or nothing that a client should see
	}
	switch r := req.(type) {
	case *api.CreateTopicsRequest:
		a := api.NewCreateTopicsResponse()
		for _, t := range r.Topics {
			rt := api.NewCreateTopicsResponseTopic()
			rt.Name, rt.ErrorCode, rt.ErrorMessage = t.Name, code, text
			a.Topics = append(a.Topics, rt)
		}
		return a
	case *api.DeleteTopicsRequest:
		a := api.NewDeleteTopicsResponse()
		if version >= 6 {
			for _, t := range r.Topics {
				a.Responses = append(a.Responses, api.DeleteTopicsResponseResponse{Name: t.Name, TopicID: t.TopicID, ErrorCode: code})
			}
			return a
		}
		for _, n := range r.TopicNames {
			a.Responses = append(a.Responses, api.DeleteTopicsResponseResponse{Name: &n, ErrorCode: code})
		}
		return a
	case *api.CreatePartitionsRequest:
		a := api.NewCreatePartitionsResponse()
		for _, t := range r.Topics {
			a.Results = append(a.Results, api.CreatePartitionsResponseResult{Name: t.Name, ErrorCode: code, ErrorMessage: text})
		}
		return a
	case *api.AlterConfigsRequest:
		a := api.NewAlterConfigsResponse()
		for _, t := range r.Resources {
			a.Responses = append(a.Responses, api.AlterConfigsResponseResponse{ErrorCode: code, ErrorMessage: text,
				ResourceType: t.ResourceType, ResourceName: t.ResourceName})
		}
		return a
	case *api.IncrementalAlterConfigsRequest:
		a := api.NewIncrementalAlterConfigsResponse()
		for _, t := range r.Resources {
			a.Responses = append(a.Responses, api.IncrementalAlterConfigsResponseResponse{ErrorCode: code, ErrorMessage: text,
				ResourceType: t.ResourceType, ResourceName: t.ResourceName})
		}
		return a
	case *api.ElectLeadersRequest:
		return electLeadersError(r, code, text)
	case *api.AlterPartitionReassignmentsRequest:
		return reassignmentsError(r, code, text)
	case *api.AlterClientQuotasRequest:
		a := api.NewAlterClientQuotasResponse()
		for _, e := range r.Entries {
			re := api.AlterClientQuotasResponseEntry{ErrorCode: code, ErrorMessage: new(code.Message())}
			for _, p := range e.Entity {
				re.Entity = append(re.Entity, api.AlterClientQuotasResponseEntryEntity{EntityType: p.EntityType, EntityName: p.EntityName})
			}
			a.Entries = append(a.Entries, re)
		}
		return a
	case *api.AlterUserScramCredentialsRequest:
		return scramError(r, code, text)
	case *api.CreateAclsRequest:
		a := api.NewCreateAclsResponse()
		for range r.Creations {
			a.Results = append(a.Results, api.CreateAclsResponseResult{ErrorCode: code, ErrorMessage: text})
		}
		return a
	case *api.DeleteAclsRequest:
		a := api.NewDeleteAclsResponse()
		for range r.Filters {
			a.FilterResults = append(a.FilterResults, api.DeleteAclsResponseFilterResult{ErrorCode: code, ErrorMessage: text})
		}
		return a
	case *api.CreateDelegationTokenRequest, *api.RenewDelegationTokenRequest, *api.ExpireDelegationTokenRequest:
		return tokenError(req, code, "User:ANONYMOUS")
	case *api.ListPartitionReassignmentsRequest:
		a := api.NewListPartitionReassignmentsResponse()
		a.ErrorCode, a.ErrorMessage = code, text
		return a
	default:
		return plainError(req, code, text)
	}
}

// plainError is for the APIs with one place for an error.
func plainError(req wire.Request, code wire.ErrorCode, text *string) wire.Message {
	message := code.Message()
	switch req.(type) {
	case *api.UpdateFeaturesRequest:
		a := api.NewUpdateFeaturesResponse()
		a.ErrorCode, a.ErrorMessage = code, text
		return a
	case *api.UnregisterBrokerRequest:
		a := api.NewUnregisterBrokerResponse()
		a.ErrorCode, a.ErrorMessage = code, text
		if text == nil {
			a.ErrorMessage = &message
		}
		return a
	case *api.UnregisterControllerRequest:
		a := api.NewUnregisterControllerResponse()
		a.ErrorCode, a.ErrorMessage = code, text
		if text == nil {
			a.ErrorMessage = &message
		}
		return a
	case *api.ControllerRegistrationRequest:
		a := api.NewControllerRegistrationResponse()
		a.ErrorCode, a.ErrorMessage = code, &message
		return a
	case *api.DescribeQuorumRequest:
		a := api.NewDescribeQuorumResponse()
		a.ErrorCode, a.ErrorMessage = code, &message
		return a
	case *api.AllocateProducerIDsRequest:
		a := api.NewAllocateProducerIDsResponse()
		a.ErrorCode = code
		return a
	case *api.AlterPartitionRequest:
		a := api.NewAlterPartitionResponse()
		a.ErrorCode = code
		return a
	case *api.BrokerRegistrationRequest:
		a := api.NewBrokerRegistrationResponse()
		a.ErrorCode = code
		return a
	case *api.AssignReplicasToDirsRequest:
		a := api.NewAssignReplicasToDirsResponse()
		a.ErrorCode = code
		return a
	default:
		a := api.NewBrokerHeartbeatResponse()
		a.ErrorCode = code
		return a
	}
}

func electLeadersError(r *api.ElectLeadersRequest, code wire.ErrorCode, text *string) wire.Message {
	a := api.NewElectLeadersResponse()
	a.ErrorCode = code
	for _, t := range r.TopicPartitions {
		rt := api.ElectLeadersResponseReplicaElectionResult{Topic: t.Topic}
		for _, n := range t.Partitions {
			rt.PartitionResult = append(rt.PartitionResult, api.ElectLeadersResponseReplicaElectionResultPartitionResult{
				PartitionID: n, ErrorCode: code, ErrorMessage: text})
		}
		a.ReplicaElectionResults = append(a.ReplicaElectionResults, rt)
	}
	return a
}

func reassignmentsError(r *api.AlterPartitionReassignmentsRequest, code wire.ErrorCode, text *string) wire.Message {
	a := api.NewAlterPartitionReassignmentsResponse()
	a.ErrorCode, a.ErrorMessage = code, text
	for _, t := range r.Topics {
		rt := api.AlterPartitionReassignmentsResponseResponse{Name: t.Name}
		for _, p := range t.Partitions {
			rt.Partitions = append(rt.Partitions, api.AlterPartitionReassignmentsResponseResponsePartition{
				PartitionIndex: p.PartitionIndex, ErrorCode: code, ErrorMessage: text})
		}
		a.Responses = append(a.Responses, rt)
	}
	return a
}

// scramError repeats the error for each user once, in order of name.
func scramError(r *api.AlterUserScramCredentialsRequest, code wire.ErrorCode, text *string) wire.Message {
	users := map[string]bool{}
	for _, d := range r.Deletions {
		users[d.Name] = true
	}
	for _, u := range r.Upsertions {
		users[u.Name] = true
	}
	a := api.NewAlterUserScramCredentialsResponse()
	for _, u := range slices.Sorted(maps.Keys(users)) {
		a.Results = append(a.Results, api.AlterUserScramCredentialsResponseResult{User: u, ErrorCode: code, ErrorMessage: text})
	}
	return a
}
