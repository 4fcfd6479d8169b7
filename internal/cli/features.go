package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/quorum"
)

// metadataVersion is one level of the metadata.version feature.
type metadataVersion struct {
	level  int16
	name   string // release and internal version, as in 4.0-IV1
	stable bool
}

// release is the part of the name before "-IV".
func (v metadataVersion) release() string {
	r, _, _ := strings.Cut(v.name, "-")
	return r
}

// metadataVersions lists the levels that 4.4 knows.
func metadataVersions() []metadataVersion {
	names := []string{"3.3-IV3", "3.4-IV0", "3.5-IV0", "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2", "3.7-IV0", "3.7-IV1",
		"3.7-IV2", "3.7-IV3", "3.7-IV4", "3.8-IV0", "3.9-IV0", "4.0-IV0", "4.0-IV1", "4.0-IV2", "4.0-IV3", "4.1-IV0", "4.1-IV1",
		"4.2-IV0", "4.2-IV1", "4.3-IV0", "4.4-IV0", "4.4-IV1", "4.4-IV2", "4.5-IV0"}
	out := make([]metadataVersion, len(names))
	for i, n := range names {
		out[i] = metadataVersion{level: int16(7 + i), name: n, stable: n != "4.5-IV0"}
	}
	return out
}

// latestStable is the level new clusters get.
func latestStable() metadataVersion {
	all := metadataVersions()
	for i := len(all) - 1; ; i-- {
		if all[i].stable {
			return all[i]
		}
	}
}

// parseMetadataVersion reads a full name, or a release, which stands for its highest stable level ("4.2", "4.2.1"). Levels that
// are not stable are known only when unstable allows them.
func parseMetadataVersion(text string, unstable bool) (metadataVersion, error) {
	key := text
	if parts := strings.Split(text, "."); len(parts) > 2 {
		key = parts[0] + "." + parts[1]
	}
	var found metadataVersion
	var names []string
	for _, v := range metadataVersions() {
		if !v.stable && !unstable {
			continue
		}
		names = append(names, v.name)
		if v.name == key || v.stable && v.release() == key {
			found = v
		}
	}
	if found.level == 0 {
		return found, fail("Unknown metadata.version '%s'. Supported metadata.version are: %s", text, strings.Join(names, ", "))
	}
	return found, nil
}

func metadataVersionOf(level int16) (metadataVersion, bool) {
	for _, v := range metadataVersions() {
		if v.level == level {
			return v, true
		}
	}
	return metadataVersion{}, false
}

// feature is one of the features beside metadata.version: from which metadata.version on its levels 1, 2... are a new
// cluster's default. steps has one entry for each level; 0 means never.
type feature struct {
	name  string
	steps []int16
	needs map[int16]int16 // level to the metadata.version it requires
}

func features() []feature {
	return []feature{
		{name: "kraft.version", steps: []int16{21}},
		{name: "transaction.version", steps: []int16{0, 24}},
		{name: "group.version", steps: []int16{22}},
		{name: "eligible.leader.replicas.version", steps: []int16{26}, needs: map[int16]int16{1: 23}},
		{name: "share.version", steps: []int16{28, 31}},
		{name: "streams.version", steps: []int16{29}},
	}
}

// defaultLevel returns the level a new cluster of the metadata.version gets.
func (f feature) defaultLevel(v metadataVersion) int16 {
	level := int16(0)
	for i, from := range f.steps {
		if from != 0 && v.level >= from {
			level = int16(i + 1)
		}
	}
	return level
}

func findFeature(name string) (feature, bool) {
	for _, f := range features() {
		if f.name == name {
			return f, true
		}
	}
	return feature{}, false
}

// parseLevel reads feature=level.
func parseLevel(text string) (name string, level int16, err error) {
	name, number, ok := strings.Cut(text, "=")
	if !ok {
		return "", 0, fail("Can't parse feature=level string %s: equals sign not found.", text)
	}
	number = strings.TrimSpace(number)
	if level, err = parseShort(number); err != nil {
		return "", 0, fail("Can't parse feature=level string %s: unable to parse %s as a short.", text, number)
	}
	return strings.TrimSpace(name), level, nil
}

func parseShort(text string) (int16, error) {
	n, err := strconv.ParseInt(text, 10, 16)
	return int16(n), err
}

// givenLevels reads the --feature arguments of format; who names a feature twice means the last one.
func givenLevels(args []string) (map[string]int16, error) {
	out := map[string]int16{}
	for _, text := range args {
		name, level, err := parseLevel(text)
		if err != nil {
			return nil, err
		}
		out[name] = level
	}
	return out, nil
}

// effectiveRelease is the metadata.version that a new cluster begins with.
func effectiveRelease(release *metadataVersion, given map[string]int16, unstable bool) (metadataVersion, error) {
	version := latestStable()
	level, byFeature := given[image.MetadataVersionFeature]
	switch {
	case byFeature && release != nil:
		return version, fail("Use --release-version instead of --feature metadata.version=X to avoid ambiguity.")
	case byFeature:
		v, ok := metadataVersionOf(level)
		if !ok {
			all := metadataVersions()
			return version, fail("No MetadataVersion with feature level %d. Valid feature levels are from %d to %d.", level, all[0].level, all[len(all)-1].level)
		}
		version = v
	case release != nil:
		version = *release
	case unstable:
		// The newest there is, stable or not, that this program runs.
		for _, v := range metadataVersions() {
			if image.MetadataVersion(v.level).Known() {
				version = v
			}
		}
	}
	if !version.stable && !unstable {
		return version, fail("metadata.version %s is not yet stable.", version.name)
	}
	if !image.MetadataVersion(version.level).Known() {
		return version, fail("metadata.version %s is above what this program runs, %s.", version.name, image.LatestMetadataVersion)
	}
	return version, nil
}

// effectiveLevels are the levels that a new cluster begins with, metadata.version first, then in order of name. kraft.version is
// checked and not among them: it lives in control records.
func effectiveLevels(version metadataVersion, given map[string]int16, dynamic bool) ([]quorum.FeatureLevel, error) {
	all := features()
	slices.SortFunc(all, func(a, b feature) int { return strings.Compare(a.name, b.name) })
	var names []string
	for _, f := range all {
		names = append(names, f.name)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if name != image.MetadataVersionFeature && !slices.Contains(names, name) {
			return nil, fail("Unsupported feature: %s. Supported features are: %s", name, strings.Join(names, ", "))
		}
	}
	if k, ok := given[image.KRaftVersionFeature]; ok {
		switch {
		case k == 0 && dynamic:
			return nil, fail("Cannot set kraft.version to 0 if controller.quorum.voters is empty and one of the flags --standalone, " +
				"--initial-controllers, or --no-initial-controllers is used. For dynamic controllers support, try removing the --feature flag for kraft.version.")
		case k != 0 && !dynamic:
			return nil, fail("Cannot set kraft.version to %d unless controller.quorum.voters is empty and one of the flags --standalone, "+
				"--initial-controllers, or --no-initial-controllers is used. For dynamic controllers support, try using one of --standalone, "+
				"--initial-controllers, or --no-initial-controllers and removing controller.quorum.voters.", k)
		}
	}
	out := []quorum.FeatureLevel{{Name: image.MetadataVersionFeature, Level: version.level}}
	for _, f := range all {
		level, ok := given[f.name]
		switch {
		case ok:
		case f.name == image.KRaftVersionFeature:
			if dynamic {
				level = 1
			}
		default:
			level = f.defaultLevel(version)
		}
		if level < 0 || int(level) > len(f.steps) {
			return nil, fail("No feature:%s with feature level %d", f.name, level)
		}
		if need := f.needs[level]; need > version.level {
			return nil, fail("%s could not be set to %d because it depends on metadata.version level %d", f.name, level, need)
		}
		if f.name != image.KRaftVersionFeature {
			out = append(out, quorum.FeatureLevel{Name: f.name, Level: level})
		}
	}
	return out, nil
}

// versionMapping prints the levels that belong to a release.
func versionMapping(s Streams, release string) error {
	if release == "" {
		release = latestStable().name
	}
	v, err := parseMetadataVersion(release, true)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "metadata.version=%d (%s)\n", v.level, release)
	for _, f := range features() {
		fmt.Fprintf(s.Out, "%s=%d\n", f.name, f.defaultLevel(v))
	}
	return nil
}

// featureDependencies prints what the given levels require. unsupported is the error of a level that a feature has not.
func featureDependencies(s Streams, args []string, unsupported string) error {
	for _, arg := range args {
		name, text, ok := strings.Cut(arg, "=")
		if !ok {
			return fail("Invalid feature format: %s. Expected format: 'feature=version' (e.g. 'group.version=1')", arg)
		}
		name, text = strings.TrimSpace(name), strings.TrimSpace(text)
		level, err := parseShort(text)
		if err != nil {
			return fail("Invalid version format: %s for feature %s", text, name)
		}
		if name == "metadata.version" {
			v, ok := metadataVersionOf(level)
			if !ok {
				return fail("Unknown metadata.version %d", level)
			}
			fmt.Fprintf(s.Out, "%s=%d (%s) has no dependencies.\n", name, level, v.name)
			continue
		}
		f, ok := findFeature(name)
		switch {
		case !ok:
			return fail("Unknown feature: %s", name)
		case level < 0 || int(level) > len(f.steps):
			return fail(unsupported, level, name)
		case f.needs[level] == 0:
			fmt.Fprintf(s.Out, "%s=%d has no dependencies.\n", name, level)
		default:
			v, _ := metadataVersionOf(f.needs[level])
			fmt.Fprintf(s.Out, "%s=%d requires:\n    metadata.version=%d (%s)\n", name, level, v.level, v.name)
		}
	}
	return nil
}
