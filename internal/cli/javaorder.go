package cli

import (
	"slices"
	"unicode/utf16"
)

// javaHashOrder sorts strings into the order in which a java.util.HashMap made with an initial capacity would yield them.
// Kafka's tools print some maps as they iterate; who compares outputs expects the same order.
func javaHashOrder[T any](items []T, key func(T) string, capacity int) []T {
	table := 1
	for table < capacity {
		table <<= 1
	}
	for len(items)*4 > table*3 {
		table <<= 1
	}
	slot := func(item T) uint32 {
		var h uint32
		for _, u := range utf16.Encode([]rune(key(item))) {
			h = 31*h + uint32(u)
		}
		return (h ^ h>>16) & uint32(table-1)
	}
	out := slices.Clone(items)
	slices.SortStableFunc(out, func(a, b T) int { return int(slot(a)) - int(slot(b)) })
	return out
}
