package group

import (
	"strconv"
	"strings"
	"time"

	"github.com/moldau-io/moldau/internal/core/image"
)

// Observe brings an image of the cluster before the first request does.
func (s *Shard) Observe(img *image.Image) { s.observe(img) }

// observe takes a newer image of the cluster.
func (s *Shard) observe(img *image.Image) {
	if img != nil && (s.image == nil || img.Provenance.Offset >= s.image.Provenance.Offset) {
		s.image = img
		if s.seenTopics == nil {
			s.seenTopics, s.newTopicsAt = img.Topics, int64(img.Provenance.Offset)
		}
	}
}

// consumerSetting returns a duration from the group's config, else from the dynamic config of this broker or of all, else otherwise.
// The bounds of what is set may have changed since: what is outside of them counts as the nearest that is inside.
func (s *Shard) consumerSetting(group, key string, otherwise time.Duration, in Bounds) time.Duration {
	if s.image == nil {
		return otherwise
	}
	if d, ok := millis(s.image.Configs.Of(image.ConfigResource{Type: image.ResourceGroup, Name: group})[key]); ok {
		return in.nearest(d)
	}
	for _, of := range []image.ConfigResource{{Type: image.ResourceBroker, Name: s.cfg.Consumer.Broker}, image.DefaultBroker} {
		if d, ok := millis(s.image.Configs.Of(of)["group."+key]); ok {
			return in.nearest(d)
		}
	}
	return otherwise
}

func millis(text string) (time.Duration, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
	return time.Duration(n) * time.Millisecond, err == nil
}

func (s *Shard) consumerHeartbeatInterval(group string) time.Duration {
	return s.consumerSetting(group, "consumer.heartbeat.interval.ms", s.cfg.Consumer.HeartbeatInterval, s.cfg.Consumer.Heartbeats)
}

func (s *Shard) consumerSession(group string) time.Duration {
	return s.consumerSetting(group, "consumer.session.timeout.ms", s.cfg.Consumer.SessionTimeout, s.cfg.Consumer.Sessions)
}

func (s *Shard) restartConsumerSession(group string, m *consumerMember) {
	d := s.consumerSession(group)
	if m.classic != nil {
		d = time.Duration(m.classic.SessionTimeoutMs) * time.Millisecond
	}
	s.timers.Set(timerKey{timerMember, group, m.id}, s.now.Add(d), struct{}{})
}

func (s *Shard) endConsumerTimers(group, memberID string) {
	s.timers.Cancel(timerKey{timerMember, group, memberID})
	s.timers.Cancel(timerKey{timerRevoke, group, memberID})
}
