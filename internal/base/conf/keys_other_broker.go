package conf

// otherBrokerKeys are the keys that fit nowhere else.
func otherBrokerKeys() []Key {
	return []Key{
		{Name: "background.threads", Type: Int, Default: "10", Rule: atLeast(1), Mode: ClusterWide},
		{Name: "broker.rack", Type: String, Null: true},
		{Name: "config.providers", Type: List, Default: "", Rule: distinct(), Mode: ClusterWide},
		{Name: "unstable.api.versions.enable", Type: Boolean, Default: "false", Internal: true},
		{Name: "unstable.feature.versions.enable", Type: Boolean, Default: "false", Internal: true},
	}
}
