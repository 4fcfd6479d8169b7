package conf

// clientMetricsKeys are the keys of a client metrics subscription.
func clientMetricsKeys() []Key {
	return []Key{
		{Name: "interval.ms", Type: Int, Default: "300000"},
		{Name: "match", Type: List, Default: "", Rule: distinct()},
		{Name: "metrics", Type: List, Default: "", Rule: distinct()},
	}
}
