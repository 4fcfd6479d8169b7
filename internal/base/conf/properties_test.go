package conf

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/base/seed"
)

func TestParseProperties(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"a=b", "a=b"},
		{"a = b ", "a=b "},
		{"a:b\r\nc d\re\t=\tf", "a=b c=d e=f"},
		{"# c=d\n ! x\\\na=1", "a=1"},
		{"a=1\na=2", "a=2"},
		{"a=x\\\n   y\\\r\n\tz", "a=xyz"},
		{"a=x\\\\\nb=1", `a=x\ b=1`},
		{"a=x\\", "a=x"},
		{"a\\=\\:\\ b=c", "a=: b=c"},
		{"k=\\t\\q\\u0041\\u00e4", "k=\tqAä"},
		{"k=\\ud83d\\ude00", "k=😀"},
		{"k=\xe4", "k=ä"}, // ISO-8859-1
		{"k=ä", "k=Ã¤"},   // UTF-8 reads as in Kafka
		{"a==b", "a==b"},
		{"a :=b", "a==b"},
		{"=v", "=v"},
		{"a", "a="},
		{"\\\n#x\na=1", "a=1"},
		{"a=\\\n\nb=1", "a= b=1"},
	} {
		p, err := ParseProperties([]byte(c.text))
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		var got []string
		for _, k := range slices.Sorted(maps.Keys(p)) {
			got = append(got, k+"="+p[k])
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q: %q, want %q", c.text, s, c.want)
		}
	}
	for _, bad := range []string{"k=\\u12", "k=\\u12g4", "\\u=1"} {
		if p, err := ParseProperties([]byte(bad)); err == nil {
			t.Errorf("%q: %v, want an error", bad, p)
		}
	}
}

func FuzzParseProperties(f *testing.F) {
	f.Add([]byte("a=b\\\n c\n#d\ne\\u0041:f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProperties(data)
		if err == nil && len(p) > len(data)+1 {
			t.Errorf("%d keys from %d bytes", len(p), len(data))
		}
	})
}

const javaProperties = `import java.io.*; import java.util.*;
public class P { public static void main(String[] a) throws Exception {
  BufferedReader in = new BufferedReader(new InputStreamReader(System.in)); StringBuilder out = new StringBuilder(); String line;
  while ((line = in.readLine()) != null) {
    Properties p = new Properties();
    try { p.load(new ByteArrayInputStream(Base64.getDecoder().decode(line))); } catch (IllegalArgumentException e) { out.append("bad\n"); continue; }
    TreeMap<String, String> m = new TreeMap<>();
    for (String k : p.stringPropertyNames()) m.put(enc(k), enc(p.getProperty(k)));
    out.append(m).append('\n');
  }
  System.out.print(out);
} static String enc(String s) throws Exception { return Base64.getEncoder().encodeToString(s.getBytes("UTF-8")); } }`

// TestPropertiesAgainstJava compares random files with java.util.Properties itself.
func TestPropertiesAgainstJava(t *testing.T) {
	java, err := exec.LookPath("java")
	if err != nil || testing.Short() {
		t.Skip("java is not installed, or the run is a short one")
	}
	rnd := rand.New(rand.NewPCG(seed.Of(t), 0))
	file := filepath.Join(t.TempDir(), "P.java")
	if err := os.WriteFile(file, []byte(javaProperties), 0o600); err != nil {
		t.Fatal(err)
	}
	const alphabet = "aab=: \t\f\r\n\n\\\\\\#!u0041\xe4"
	var inputs []string
	var stdin strings.Builder
	for range 20000 {
		text := make([]byte, rnd.IntN(24))
		for i := range text {
			text[i] = alphabet[rnd.IntN(len(alphabet))]
		}
		inputs = append(inputs, string(text))
		stdin.WriteString(base64.StdEncoding.EncodeToString(text) + "\n")
	}
	cmd := exec.Command(java, file)
	cmd.Stdin = strings.NewReader(stdin.String())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Skipf("java cannot run a source file: %v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(inputs) {
		t.Fatalf("java answered %d lines for %d inputs", len(lines), len(inputs))
	}
	for i, in := range inputs {
		got := "bad"
		if p, err := ParseProperties([]byte(in)); err == nil {
			pairs := make([]string, 0, len(p))
			for k, v := range p {
				enc := base64.StdEncoding.EncodeToString
				pairs = append(pairs, fmt.Sprintf("%s=%s", enc([]byte(k)), enc([]byte(v))))
			}
			slices.SortFunc(pairs, func(a, b string) int {
				ka, _, _ := strings.Cut(a+"=", "=")
				kb, _, _ := strings.Cut(b+"=", "=")
				return strings.Compare(ka, kb)
			})
			got = "{" + strings.Join(pairs, ", ") + "}"
		}
		if got != lines[i] && !sameSet(got, lines[i]) {
			t.Fatalf("%q: %s, java %s", in, got, lines[i])
		}
	}
}

// sameSet compares two printed maps without regard to order.
func sameSet(a, b string) bool {
	split := func(s string) []string {
		parts := strings.Split(strings.Trim(s, "{}"), ", ")
		slices.Sort(parts)
		return parts
	}
	return slices.Equal(split(a), split(b))
}
