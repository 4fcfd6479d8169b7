package conf

// clientMetricsKeys are the keys of a client metrics subscription.
func clientMetricsKeys() []Key {
	return []Key{
		{Name: "interval.ms", Type: Int, Default: "300000",
			Doc: "How often a matching client is asked to push its metrics, from 100 ms to one hour."},
		{Name: "match", Type: List, Default: "", Rule: distinct(),
			Doc: "Client attributes, as name=pattern, that a client must have for the subscription to hold; none means every client."},
		{Name: "metrics", Type: List, Default: "", Rule: distinct(),
			Doc: "Prefixes of the metrics to push; * asks for all, an empty list for none."},
	}
}
