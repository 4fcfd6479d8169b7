package cli

import (
	"fmt"
	"strings"
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

// parseMetadataVersion reads a full name, or a release, which stands for its highest level ("4.2", "4.2.1").
func parseMetadataVersion(text string) (metadataVersion, error) {
	parts := strings.Split(text, ".")
	release := strings.Join(parts[:min(2, len(parts))], ".")
	var found metadataVersion
	var names []string
	for _, v := range metadataVersions() {
		names = append(names, v.name)
		if v.name == text || !strings.Contains(text, "-") && v.release() == release {
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

// versionMapping prints the levels that belong to a release.
func versionMapping(s Streams, release string) error {
	if release == "" {
		release = latestStable().name
	}
	v, err := parseMetadataVersion(release)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "metadata.version=%d (%s)\n", v.level, release)
	for _, f := range features() {
		fmt.Fprintf(s.Out, "%s=%d\n", f.name, f.defaultLevel(v))
	}
	return nil
}

// featureDependencies prints what the given levels require.
func featureDependencies(s Streams, args []string) error {
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
			return fail("Feature level %d is not supported for feature %s", level, name)
		case f.needs[level] == 0:
			fmt.Fprintf(s.Out, "%s=%d has no dependencies.\n", name, level)
		default:
			v, _ := metadataVersionOf(f.needs[level])
			fmt.Fprintf(s.Out, "%s=%d requires:\n    metadata.version=%d (%s)\n", name, level, v.level, v.name)
		}
	}
	return nil
}
