package ctlhandler

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// The BROKER_LOGGER resource (KIP-412): this program has one logger, which Kafka calls root.
const rootLogger = "root"

var levelNames = map[string]slog.Level{"FATAL": slog.LevelError + 4, "ERROR": slog.LevelError, "WARN": slog.LevelWarn, "INFO": slog.LevelInfo,
	"DEBUG": slog.LevelDebug, "TRACE": slog.LevelDebug - 4}

// Loggers shows and changes the log level of a node.
type Loggers struct {
	NodeID id.BrokerID
	Level  *slog.LevelVar // nil: there is none to change
	Logger *slog.Logger   // where a change is told
}

func (d *Loggers) describe(keys []string) []conf.Entry {
	if d.Level == nil || len(keys) > 0 && !slices.Contains(keys, rootLogger) {
		return nil
	}
	value := "INFO"
	for name, level := range levelNames {
		if level == d.Level.Level() {
			value = name
		}
	}
	return []conf.Entry{{Name: rootLogger, Value: &value, Source: conf.BrokerLoggerConfig}}
}

// Alter checks all changes of the resource, and makes them unless they are only to be validated. Its errors are *conf.Error.
func (d *Loggers) Alter(res *api.IncrementalAlterConfigsRequestResource, validateOnly bool) error {
	request := func(format string, args ...any) error {
		return &conf.Error{Message: fmt.Sprintf(format, args...), Request: true}
	}
	n, err := strconv.ParseInt(res.ResourceName, 10, 32)
	switch {
	case err != nil:
		return request("Node id must be an integer, but it is: %s", res.ResourceName)
	case int32(n) != int32(d.NodeID):
		return request("Unexpected node id. Expected %d, but received %d", d.NodeID, n)
	}
	for _, c := range res.Configs {
		op := conf.OpType(c.ConfigOperation)
		switch {
		case op == conf.Set && c.Value == nil:
			return request("Null value not supported for the BROKER_LOGGER resource")
		case op == conf.Append || op == conf.Subtract:
			return request("%s operation is not allowed for the BROKER_LOGGER resource", op)
		case op != conf.Set && op != conf.Delete:
			return request("Unknown operation type %d is not allowed for the BROKER_LOGGER resource", c.ConfigOperation)
		case c.Name != rootLogger || d.Level == nil:
			return &conf.Error{Message: "Logger " + c.Name + " does not exist!"}
		case op == conf.Delete:
			return request("Removing the log level of the %s logger is not allowed", rootLogger)
		}
		if _, ok := levelNames[*c.Value]; !ok {
			return &conf.Error{Message: "Cannot set the log level of " + c.Name + " to " + *c.Value + " as it is not a supported log level. " +
				"Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN"}
		}
	}
	if validateOnly {
		return nil
	}
	for _, c := range res.Configs {
		d.Level.Set(levelNames[*c.Value])
		d.Logger.Warn("log level changed", "logger", c.Name, "level", *c.Value)
	}
	return nil
}
