package controller

import (
	"strconv"
	"strings"
	"unicode/utf16"
)

// ClusterMetadataTopic is the topic that exists only as the quorum's log.
const ClusterMetadataTopic = "__cluster_metadata"

const maxTopicName = 249

// ValidateTopicName returns why name cannot be a topic's, in Kafka's words, or "".
func ValidateTopicName(name string) string {
	const prefix = "Topic name is invalid: "
	switch {
	case name == "":
		return prefix + "the empty string is not allowed"
	case name == ".":
		return prefix + "'.' is not allowed"
	case name == "..":
		return prefix + "'..' is not allowed"
	case len(name) > maxTopicName && len(utf16.Encode([]rune(name))) > maxTopicName:
		return prefix + "the length of '" + name + "' is longer than the max allowed length " + strconv.Itoa(maxTopicName)
	}
	for i := 0; i < len(name); i++ {
		b := name[i]
		if !(b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b == '.' || b == '_' || b == '-') {
			return prefix + "'" + name + "' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
		}
	}
	return ""
}

// collisionKey returns the form under which names with '.' and '_' collide as metric names; false for names with neither.
func collisionKey(name string) (string, bool) {
	if !strings.ContainsAny(name, "._") {
		return "", false
	}
	return strings.ReplaceAll(name, ".", "_"), true
}
