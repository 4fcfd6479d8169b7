package cli

import (
	"slices"
	"unicode/utf16"

	"github.com/moldau-io/moldau/internal/base/id"
)

// javaStringHash is String.hashCode.
func javaStringHash(s string) uint32 {
	var h uint32
	for _, u := range utf16.Encode([]rune(s)) {
		h = 31*h + uint32(u)
	}
	return h
}

// javaPartitionHash is the hash code of Kafka's TopicPartition class.
func javaPartitionHash(tp id.TopicPartition) uint32 {
	return 31*(31+uint32(tp.Partition)) + javaStringHash(tp.Topic)
}

// javaHashOrder sorts keys into the order in which a java.util.HashMap made with an initial capacity would yield them.
// Kafka's tools print some maps as they iterate; who compares outputs expects the same order.
func javaHashOrder[T any](items []T, hash func(T) uint32, capacity int) []T {
	table := 1
	for table < capacity {
		table <<= 1
	}
	for len(items)*4 > table*3 {
		table <<= 1
	}
	slot := func(item T) int {
		h := hash(item)
		return int((h ^ h>>16) & uint32(table-1))
	}
	out := slices.Clone(items)
	slices.SortStableFunc(out, func(a, b T) int { return slot(a) - slot(b) })
	return out
}
