package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/node"
)

const startHelp = `USAGE: moldau start [-daemon] [server.properties] [--override property=value]...

Starts a node. Without a file it is broker and controller on localhost, ports 9092 and 9093, with its data in ./moldau-data,
which it formats by itself. With a file its directories must have been formatted by moldau storage format.

SIGTERM and SIGINT stop it in good order, within three minutes at most; a second signal ends it at once.

Options:
--override <property=value>  sets a property over the file; may be repeated
--log-format <text|json>     how log lines look (default text; environment MOLDAU_LOG_FORMAT)
--log-level <level>          debug, info, warn or error (default info; environment MOLDAU_LOG_LEVEL)
--metrics <host:port>        where /metrics is served (default :9404 if that port is free; "none": nowhere)
--version                    prints the version and ends
`

// Bounds of an end: shutdownTime is how long the controller and clients are waited for, stopLimit how long anything is.
const (
	shutdownTime = 60 * time.Second
	stopLimit    = 3 * time.Minute
)

// startOptions is the command line of start.
type startOptions struct {
	file      string
	overrides []string
	format    string
	level     slog.Level
	metrics   *string // nil: not given
}

// runStart runs a node until the context ends or the node fails.
func runStart(ctx context.Context, s Streams, args []string) error {
	o, err := parseStart(args)
	if err != nil {
		return err
	}
	if o == nil {
		fmt.Fprintln(s.Out, Version)
		return nil
	}
	level := new(slog.LevelVar)
	level.Set(o.level)
	logger := newLogger(s.Out, o.format, level)
	b, warnings, err := loadStart(o)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		logger.Warn(w.Message, "key", w.Key)
	}
	tuneMemory()
	opts := node.Options{Config: b, AutoFormat: o.file == "", Logger: logger, Level: level, Metrics: ":9404", MetricsOptional: true}
	if o.metrics != nil {
		opts.Metrics, opts.MetricsOptional = *o.metrics, false
		if opts.Metrics == "none" {
			opts.Metrics = ""
		}
	}
	n, err := node.Start(ctx, opts)
	if err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return nil // told to stop while starting
		}
		return err
	}
	select {
	case <-ctx.Done():
	case <-n.Failed():
	}
	err = stopWithin(stopLimit, n.Shutdown)
	return errors.Join(n.Err(), err)
}

// stopWithin calls stop and waits for it, but no longer than limit: a node that hangs while it stops must not stay for ever
// between life and death. What it had not closed is recovered at the next start, as after a crash.
func stopWithin(limit time.Duration, stop func(context.Context) error) error {
	graceful, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- stop(graceful) }()
	hard := time.NewTimer(limit)
	defer hard.Stop()
	select {
	case err := <-stopped:
		return err
	case <-hard.C:
		return fmt.Errorf("the node has not stopped within %v and is ended; its logs are recovered at the next start", limit)
	}
}

// loadStart reads the properties: the file's, or those of a node that needs none.
func loadStart(o *startOptions) (*conf.Broker, []conf.Warning, error) {
	properties := conf.DevDefaults()
	if o.file != "" {
		var err error
		if properties, err = conf.ReadFile(o.file); err != nil {
			return nil, nil, err
		}
	}
	b, warnings, err := conf.Load(properties, o.overrides)
	if o.file == "" { // what we set ourselves needs no warning
		set := func(key string) bool {
			return slices.ContainsFunc(o.overrides, func(x string) bool { return strings.HasPrefix(x, key+"=") })
		}
		warnings = slices.DeleteFunc(warnings, func(w conf.Warning) bool { return properties[w.Key] != "" && !set(w.Key) })
	}
	return b, warnings, err
}

// parseStart reads the command line; nil options ask for the version.
func parseStart(args []string) (*startOptions, error) {
	o := &startOptions{format: os.Getenv("MOLDAU_LOG_FORMAT"), level: slog.LevelInfo}
	levelText := os.Getenv("MOLDAU_LOG_LEVEL")
	usage := func(format string, a ...any) error {
		return &failure{code: 1, text: fmt.Sprintf(format, a...), help: startHelp}
	}
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(args[i], "=")
		switch name = strings.TrimPrefix(name, "-"); name {
		case "-version":
			return nil, nil
		case "-help", "help", "h":
			return nil, &failure{code: 1, help: startHelp}
		case "daemon":
			return nil, usage("-daemon is not supported: let a service manager run moldau in the background")
		case "-override", "-log-format", "-log-level", "-metrics":
			if name == "-override" || !has { // an override's own = is part of its value
				if i++; i == len(args) {
					return nil, usage("Option %s needs a value", args[i-1])
				}
				value = args[i]
			}
			switch name {
			case "-override":
				o.overrides = append(o.overrides, value)
			case "-log-format":
				o.format = value
			case "-log-level":
				levelText = value
			case "-metrics":
				o.metrics = &value
			}
		default:
			if strings.HasPrefix(args[i], "-") {
				return nil, usage("Unknown option %s", args[i])
			}
			if o.file != "" {
				return nil, usage("Found non argument parameters: %s", args[i])
			}
			o.file = args[i]
		}
	}
	if levelText != "" {
		if err := o.level.UnmarshalText([]byte(levelText)); err != nil {
			return nil, usage("Unknown log level %q", levelText)
		}
	}
	if o.format != "" && o.format != "text" && o.format != "json" {
		return nil, usage("Unknown log format %q", o.format)
	}
	return o, nil
}

func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
