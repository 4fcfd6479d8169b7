package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// Kinds of update in UpdateFeatures (KIP-584, KIP-778).
const (
	featureUpgrade         int8 = 1
	featureSafeDowngrade   int8 = 2
	featureUnsafeDowngrade int8 = 3
)

func featuresParser() *argParser {
	p := &argParser{prog: "kafka-features", about: "Shows the levels of features and changes them."}
	bootstrapFlags(p, false, []string{"--bootstrap-server"}, []string{"--bootstrap-controller"})
	p.flag(argStore, "Properties of the client.", "--command-config")
	p.sub("describe", "Show the levels.").flag(argStore, "The node to ask; any one unless given.", "--node-id").integer = true
	for _, op := range []string{"upgrade", "downgrade"} {
		s := p.sub(op, strings.ToUpper(op[:1])+op[1:]+" features.")
		s.flag(argStore, "DEPRECATED: the level of metadata.version, as in 3.3-IV3.", "--metadata")
		s.flag(argStore, "The release whose levels all features get; version-mapping shows them.", "--release-version")
		s.flag(argAppend, "A feature and its new level, as in metadata.version=5.", "--feature")
		if op == "downgrade" {
			s.flag(argTrue, "Do it even if metadata is lost.", "--unsafe")
		}
		s.flag(argTrue, "Check and do nothing.", "--dry-run")
	}
	d := p.sub("disable", "Switch features off, as a downgrade to level 0 does.")
	d.flag(argAppend, "A feature.", "--feature")
	d.flag(argTrue, "Do it even if metadata is lost.", "--unsafe")
	d.flag(argTrue, "Check and do nothing.", "--dry-run")
	p.sub("version-mapping", "Show the feature levels of a release.").flag(argStore, "The release; "+latestStable().name+" unless given.", "--release-version")
	p.sub("feature-dependencies", "Show what feature levels require.").
		flag(argAppend, "The feature, as in metadata.version=5.", "--feature").required = true
	return p
}

func runFeatures(ctx context.Context, s Streams, args []string) error {
	n, err := featuresParser().parse(args)
	var help *helpRequest
	switch {
	case errors.As(err, &help):
		fmt.Fprint(s.Out, help.parser.helpText())
		return nil
	case err != nil:
		return fail("Command line error: %s. Type --help for help.", err)
	}
	switch n.command {
	case "version-mapping":
		return versionMapping(s, n.str("release-version"))
	case "feature-dependencies":
		for _, f := range n.all("feature") {
			if _, _, err := parseLevel(f); err != nil {
				return err
			}
			if err := featureDependencies(s, []string{f}, "No feature:%[2]s with feature level %[1]d"); err != nil {
				return err
			}
		}
		return nil
	}
	properties, err := clientProperties(n.str("command-config"), nil)
	if err != nil {
		return err
	}
	if !n.has("bootstrap-server") && !n.has("bootstrap-controller") {
		return fail("Command line error: You must specify either --bootstrap-controller or --bootstrap-server.. Type --help for help.")
	}
	line, err := newAdminLine(n, properties, "adminclient-1")
	if err != nil {
		return err
	}
	defer line.close()
	if n.command == "describe" {
		return describeFeatures(ctx, s, n, line)
	}
	updates, err := featureUpdates(s, n)
	if err != nil {
		return err
	}
	return updateFeatures(ctx, s, n.command, updates, n.has("dry-run"), line)
}

func describeFeatures(ctx context.Context, s Streams, n *namespace, line *adminLine) error {
	var m wire.Message
	var err error
	switch nodeID := n.integer("node-id"); {
	case !n.has("node-id"):
		m, err = line.any(ctx, "describeFeatures", versionsRequest())
	case nodeID < 0:
		return fail("Invalid node id %d: must be non-negative.", nodeID)
	default:
		m, err = line.node(ctx, "describeFeatures", nodeID, versionsRequest())
	}
	if err != nil {
		return executionError(err)
	}
	r := m.(*api.ApiVersionsResponse)
	if err := answered(int16(r.ErrorCode), nil); err != nil {
		return executionError(err)
	}
	finalized := map[string]int16{}
	for _, f := range r.FinalizedFeatures {
		finalized[f.Name] = f.MaxVersionLevel
	}
	epoch := "-"
	if r.FinalizedFeaturesEpoch >= 0 {
		epoch = strconv.FormatInt(r.FinalizedFeaturesEpoch, 10)
	}
	slices.SortFunc(r.SupportedFeatures, func(a, b api.ApiVersionsResponseSupportedFeature) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range r.SupportedFeatures {
		fmt.Fprintf(s.Out, "Feature: %-40s  SupportedMinVersion: %-15s  SupportedMaxVersion: %-15s  FinalizedVersionLevel: %-15s  Epoch: %s\n", f.Name,
			levelText(f.Name, f.MinVersion), levelText(f.Name, f.MaxVersion), levelText(f.Name, finalized[f.Name]), epoch)
	}
	return nil
}

func levelText(feature string, level int16) string {
	if feature != image.MetadataVersionFeature {
		return strconv.Itoa(int(level))
	}
	if v, ok := metadataVersionOf(level); ok {
		return v.name
	}
	return fmt.Sprintf("UNKNOWN %d", level)
}

// featureUpdates reads what is to be changed.
func featureUpdates(s Streams, n *namespace) (map[string]api.UpdateFeaturesRequestFeatureUpdate, error) {
	kind := featureUpgrade
	switch {
	case n.command != "upgrade" && n.has("unsafe"):
		kind = featureUnsafeDowngrade
	case n.command != "upgrade":
		kind = featureSafeDowngrade
	}
	out := map[string]api.UpdateFeaturesRequestFeatureUpdate{}
	set := func(name string, level int16) {
		out[name] = api.UpdateFeaturesRequestFeatureUpdate{Feature: name, MaxVersionLevel: level, UpgradeType: kind, AllowDowngrade: kind != featureUpgrade}
	}
	if n.command == "disable" {
		for _, name := range n.all("feature") {
			if _, twice := out[name]; twice {
				return nil, fail("Feature %s was specified more than once.", name)
			}
			set(name, 0)
		}
		return out, nil
	}
	if n.has("release-version") {
		if n.has("metadata") || n.has("feature") {
			return nil, fail("Can not specify `release-version` with other feature flags.")
		}
		v, err := parseMetadataVersion(n.str("release-version"), true)
		if err != nil {
			return nil, err
		}
		set(image.MetadataVersionFeature, v.level)
		for _, f := range features() {
			if level := f.defaultLevel(v); kind != featureUpgrade || level > 0 {
				set(f.name, level)
			}
		}
		return out, nil
	}
	if n.has("metadata") {
		fmt.Fprintln(s.Out, " `metadata` flag is deprecated and may be removed in a future release.")
		v, err := parseMetadataVersion(n.str("metadata"), true)
		if err != nil {
			return nil, err
		}
		set(image.MetadataVersionFeature, v.level)
	}
	for _, text := range n.all("feature") {
		name, level, err := parseLevel(text)
		if err != nil {
			return nil, err
		}
		if _, twice := out[name]; twice {
			return nil, fail("Feature %s was specified more than once.", name)
		}
		set(name, level)
	}
	return out, nil
}

func updateFeatures(ctx context.Context, s Streams, op string, updates map[string]api.UpdateFeaturesRequestFeatureUpdate, dryRun bool, line *adminLine) error {
	if len(updates) == 0 {
		return fail("You must specify at least one feature to %s", op)
	}
	names := slices.Sorted(maps.Keys(updates))
	req := api.NewUpdateFeaturesRequest()
	req.TimeoutMs, req.ValidateOnly = int32(line.timeout.Milliseconds()), dryRun
	for _, name := range javaHashOrder(names, javaStringHash, 16) {
		req.FeatureUpdates = append(req.FeatureUpdates, updates[name])
	}
	m, err := line.controller(ctx, "updateFeatures", req)
	results := map[string]error{}
	if err == nil {
		r := m.(*api.UpdateFeaturesResponse)
		err = answered(int16(r.ErrorCode), r.ErrorMessage)
		for _, f := range r.Results { // up to version 1 features have errors of their own
			results[f.Feature] = answered(int16(f.ErrorCode), f.ErrorMessage)
		}
	}
	failures := 0
	for _, name := range names {
		outcome := err
		if outcome == nil {
			outcome = results[name]
		}
		level := updates[name].MaxVersionLevel
		if outcome != nil {
			failures++
			what := fmt.Sprintf("%s %s to %d", op, name, level)
			if op == "disable" {
				what = "disable " + name
			}
			fmt.Fprintf(s.Out, "%s%s. %s\n", doneOrDry(dryRun, "Could not ", "Can not "), what, outcome)
			continue
		}
		what := fmt.Sprintf("%sd to %d.", op, level)
		if op == "disable" {
			what = "disabled."
		}
		fmt.Fprintf(s.Out, "%s%s%s\n", name, doneOrDry(dryRun, " was ", " can be "), what)
	}
	if failures > 0 {
		return fail("%d out of %d operation(s) failed.", failures, len(updates))
	}
	return nil
}
