package conf

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// provider resolves variables ${name:[path:]key} in values (KIP-297).
type provider func(path, key string) (value string, ok bool, err error)

// variable has the provider in group 1, the path in 3 and the key in 4.
var variable = regexp.MustCompile(`\$\{([^}]*?):(([^}]*?):)?([^}]*?)\}`)

// expandProviders replaces variables in all values by what the providers named in config.providers say. A variable of an
// unknown provider, or one the provider has no value for, stays as it is.
func expandProviders(properties map[string]string) (map[string]string, error) {
	names := properties["config.providers"]
	if names == "" {
		return properties, nil
	}
	providers := map[string]provider{}
	for _, name := range strings.Split(names, ",") {
		class, ok := properties["config.providers."+name+".class"]
		if !ok {
			continue
		}
		p, err := newProvider(name, class, properties)
		if err != nil {
			return nil, err
		}
		providers[name] = p
	}
	out := maps.Clone(properties)
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		value, err := expand(properties[key], providers)
		if err != nil {
			return nil, err
		}
		out[key] = value
	}
	return out, nil
}

func expand(text string, providers map[string]provider) (string, error) {
	if !strings.Contains(text, "${") {
		return text, nil
	}
	var out strings.Builder
	end := 0
	for _, m := range variable.FindAllStringSubmatchIndex(text, -1) {
		p, ok := providers[text[m[2]:m[3]]]
		if !ok {
			continue
		}
		path := ""
		if m[6] >= 0 {
			path = text[m[6]:m[7]]
		}
		value, found, err := p(path, text[m[8]:m[9]])
		if err != nil {
			return "", err
		}
		out.WriteString(text[end:m[0]])
		if found {
			out.WriteString(value)
		} else {
			out.WriteString(text[m[0]:m[1]])
		}
		end = m[1]
	}
	out.WriteString(text[end:])
	return out.String(), nil
}

// newProvider makes one of Kafka's three providers; the class names are part of users' property files.
func newProvider(name, class string, properties map[string]string) (provider, error) {
	param := func(key string) (string, bool) {
		v, ok := properties["config.providers."+name+".param."+key]
		return v, ok
	}
	switch class {
	case "org.apache.kafka.common.config.provider.FileConfigProvider":
		allowed, err := allowedPaths(param("allowed.paths"))
		return func(path, key string) (string, bool, error) { return fromFile(allowed, path, key) }, err
	case "org.apache.kafka.common.config.provider.DirectoryConfigProvider":
		allowed, err := allowedPaths(param("allowed.paths"))
		return func(path, key string) (string, bool, error) { return fromDirectory(allowed, path, key) }, err
	case "org.apache.kafka.common.config.provider.EnvVarConfigProvider":
		pattern, ok := param("allowlist.pattern")
		if !ok {
			pattern = ".*"
		}
		re, err := regexp.Compile("^(?:" + pattern + ")$")
		if err != nil {
			return nil, invalid("config.providers."+name+".param.allowlist.pattern", pattern, err.Error())
		}
		return func(path, key string) (string, bool, error) { return fromEnvironment(re, path, key) }, nil
	}
	return nil, invalid("config.providers."+name+".class", class, "Could not load config provider class or one of its dependencies")
}

// pathRule returns the path to open, or false if it may not be opened.
type pathRule func(path string) (string, bool)

func allowedPaths(list string, _ bool) (pathRule, error) {
	if list == "" {
		return func(path string) (string, bool) { return path, true }, nil
	}
	var roots []string
	for _, p := range strings.Split(list, ",") {
		p = filepath.Clean(p)
		if !filepath.IsAbs(p) {
			return nil, failf("Path %s is not absolute", p)
		}
		if _, err := os.Stat(p); err != nil {
			return nil, failf("Path %s does not exist", p)
		}
		roots = append(roots, p)
	}
	return func(path string) (string, bool) {
		path = filepath.Clean(path)
		within := func(root string) bool {
			rel, err := filepath.Rel(root, path)
			return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
		}
		return path, slices.ContainsFunc(roots, within)
	}, nil
}

func fromFile(allowed pathRule, path, key string) (string, bool, error) {
	if path == "" {
		return "", false, nil
	}
	file, ok := allowed(path)
	if !ok {
		return "", false, nil
	}
	data, err := readBounded(file)
	if err != nil || !utf8.Valid(data) {
		return "", false, failf("Could not read properties from file %s", path)
	}
	properties, err := parsePropertiesUTF8(data)
	if err != nil {
		return "", false, err
	}
	value, ok := properties[key]
	return value, ok, nil
}

func fromDirectory(allowed pathRule, path, key string) (string, bool, error) {
	if path == "" || key == "" || key != filepath.Base(key) || key == "." || key == ".." {
		return "", false, nil
	}
	dir, ok := allowed(path)
	if !ok {
		return "", false, nil
	}
	file := filepath.Join(dir, key)
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() {
		return "", false, nil
	}
	data, err := readBounded(file)
	if err != nil || !utf8.Valid(data) {
		return "", false, failf("Could not read file %s for property %s", file, key)
	}
	return string(data), true, nil
}

func fromEnvironment(allow *regexp.Regexp, path, key string) (string, bool, error) {
	if path != "" {
		return "", false, failf("Path is not supported for EnvVarConfigProvider, invalid value '%s'", path)
	}
	if !allow.MatchString(key) {
		return "", false, nil
	}
	value, ok := os.LookupEnv(key)
	return value, ok, nil
}
