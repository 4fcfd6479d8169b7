package conf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProviders(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("ok/secrets.properties", "rack=r-ä\nparts=7\n")
	outside := write("outside.properties", "rack=stolen\n")
	write("ok/partitions", "9")
	t.Setenv("CONF_TEST_RACK", "env-rack")
	t.Setenv("OTHER_RACK", "other")
	const class = "org.apache.kafka.common.config.provider."
	base := map[string]string{
		"config.providers":                             "file,dir,env",
		"config.providers.file.class":                  class + "FileConfigProvider",
		"config.providers.file.param.allowed.paths":    filepath.Join(dir, "ok"),
		"config.providers.dir.class":                   class + "DirectoryConfigProvider",
		"config.providers.env.class":                   class + "EnvVarConfigProvider",
		"config.providers.env.param.allowlist.pattern": "CONF_.*",
	}
	for _, c := range []struct{ value, want string }{
		{"${file:" + file + ":rack}", "r-ä"},
		{"x${file:" + file + ":parts}y${env:CONF_TEST_RACK}z", "x7yenv-rackz"},
		{"${file:" + file + ":absent}", "${file:" + file + ":absent}"},
		{"${file:" + outside + ":rack}", "${file:" + outside + ":rack}"},
		{"${file:" + dir + "/ok/../outside.properties:rack}", "${file:" + dir + "/ok/../outside.properties:rack}"},
		{"${dir:" + filepath.Join(dir, "ok") + ":partitions}", "9"},
		{"${dir:" + filepath.Join(dir, "ok") + ":../outside.properties}", "${dir:" + filepath.Join(dir, "ok") + ":../outside.properties}"},
		{"${env:OTHER_RACK}", "${env:OTHER_RACK}"},
		{"${nobody:x}${env:CONF_TEST_RACK}", "${nobody:x}env-rack"},
		{"plain $ {text}", "plain $ {text}"},
	} {
		p := map[string]string{"broker.rack": c.value}
		for k, v := range base {
			p[k] = v
		}
		got, err := expandProviders(p)
		if err != nil || got["broker.rack"] != c.want {
			t.Errorf("%s: %s, %v; want %s", c.value, got["broker.rack"], err, c.want)
		}
	}
	for _, c := range []struct{ key, value, want string }{
		{"config.providers.file.class", "com.example.Vault", "Could not load config provider class"},
		{"config.providers.file.param.allowed.paths", "relative", "Path relative is not absolute"},
		{"config.providers.file.param.allowed.paths", "/no/such/path", "Path /no/such/path does not exist"},
		{"broker.rack", "${env:path:CONF_TEST_RACK}", "Path is not supported for EnvVarConfigProvider, invalid value 'path'"},
		{"broker.rack", "${file:" + filepath.Join(dir, "ok", "none") + ":x}", "Could not read properties from file"},
	} {
		p := map[string]string{}
		for k, v := range base {
			p[k] = v
		}
		p[c.key] = c.value
		if _, err := expandProviders(p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: %v, want %s", c.key, c.value, err, c.want)
		}
	}
}
