package conf

// networkKeys are the keys of listeners, sockets and request threads.
func networkKeys() []Key {
	return []Key{
		{Name: "advertised.listeners", Type: List, Null: true, Rule: someDistinctOrNull()},
		{Name: "connection.failed.authentication.delay.ms", Type: Int, Default: "100", Rule: atLeast(0)},
		{Name: "connections.max.idle.ms", Type: Long, Default: "600000"},
		{Name: "early.start.listeners", Type: List, Null: true, Rule: distinctOrNull()},
		{Name: "inter.broker.listener.name", Type: String, Null: true},
		{Name: "listener.security.protocol.map", Type: String, Default: "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", Mode: PerBroker},
		{Name: "listeners", Type: List, Default: "PLAINTEXT://:9092", Rule: someDistinct(), Mode: PerBroker},
		{Name: "max.connection.creation.rate", Type: Int, Default: "2147483647", Rule: atLeast(0), Mode: ClusterWide},
		{Name: "max.connections", Type: Int, Default: "2147483647", Rule: atLeast(0), Mode: ClusterWide},
		{Name: "max.connections.per.ip", Type: Int, Default: "2147483647", Rule: atLeast(0), Mode: ClusterWide},
		{Name: "max.connections.per.ip.overrides", Type: String, Default: "", Mode: ClusterWide},
		{Name: "num.io.threads", Type: Int, Default: "8", Rule: atLeast(1), Mode: ClusterWide},
		{Name: "num.network.threads", Type: Int, Default: "3", Rule: atLeast(1), Mode: ClusterWide},
		{Name: "queued.max.request.bytes", Type: Long, Default: "-1"},
		{Name: "queued.max.requests", Type: Int, Default: "500", Rule: atLeast(1)},
		{Name: "socket.connection.setup.timeout.max.ms", Type: Long, Default: "30000"},
		{Name: "socket.connection.setup.timeout.ms", Type: Long, Default: "10000"},
		{Name: "socket.listen.backlog.size", Type: Int, Default: "50", Rule: atLeast(1)},
		{Name: "socket.receive.buffer.bytes", Type: Int, Default: "102400"},
		{Name: "socket.request.max.bytes", Type: Int, Default: "104857600", Rule: atLeast(1)},
		{Name: "socket.send.buffer.bytes", Type: Int, Default: "102400"},
	}
}
