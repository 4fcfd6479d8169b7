package conf

// otherBrokerKeys are the keys that fit nowhere else.
func otherBrokerKeys() []Key {
	return []Key{
		{Name: "background.threads", Type: Int, Default: "10", Rule: atLeast(1), Mode: ClusterWide,
			Doc: "Number of threads for background work; Moldau sizes its own."},
		{Name: "broker.rack", Type: String, Null: true, State: Done,
			Doc: "Rack or zone of the broker, used for placing replicas and for reading from the nearest."},
		{Name: "config.providers", Type: List, Default: "", Rule: distinct(), Mode: ClusterWide, State: Done,
			Doc: "Names of config providers whose variables may stand in other values; the file, directory and environment providers are built in."},
		{Name: "unstable.api.versions.enable", Type: Boolean, Default: "false", Internal: true, State: Done,
			Doc: "Whether API versions in development are offered."},
		{Name: "unstable.feature.versions.enable", Type: Boolean, Default: "false", Internal: true,
			Doc: "Whether feature levels in development are allowed."},
	}
}
