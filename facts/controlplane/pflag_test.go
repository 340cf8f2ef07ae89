// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	goflag "flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"pgregory.net/rapid"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// commandLine draws words that are nearly always flags, and some that are nearly
// never.
func commandLine(t *rapid.T, c *component) []string {
	names := []string{rapid.SampledFrom([]string{"v", "none", "profiling", "auto-tls"}).Draw(t, "other")}
	for range 3 {
		names = append(names, rapid.SampledFrom(c.flags).Draw(t, "flag").name)
	}
	values := []string{"true", "false", "t", "F", "1", "0", "TRUE", "no", "", "30", "-1", "0x10", "a,b", "a,,b", `"a,b",c`, `a"b`, "-x", "--", "--v", "=", "a=b", "A=true,B=false", "2m", "=5", "5"}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		dashes := rapid.SampledFrom([]string{"--", "--", "--", "-", "---", ""}).Draw(t, "dashes")
		name := rapid.SampledFrom(names).Draw(t, "name")
		value := rapid.SampledFrom(values).Draw(t, "value")
		switch rapid.IntRange(0, 9).Draw(t, "form") {
		case 0:
			return value
		case 1, 2:
			return dashes + name
		case 3:
			return "-v" + value
		case 4:
			return dashes + strings.ReplaceAll(name, "-", "_") + "=" + value
		}
		return dashes + name + "=" + value
	}), 0, 6).Draw(t, "words")
}

// ours reads a command line and writes its flags as the libraries do.
func ours(c *component, line []string) map[string]string {
	var words []word
	for _, s := range line {
		words = append(words, word{text: s})
	}
	s := c.parse(words)
	out := map[string]string{}
	for name, values := range s.flags {
		f := c.flag(name)
		if f == nil {
			continue
		}
		n := c.value(f, values)
		switch {
		case n == nil:
			out[name] = "[]"
		case n.Kind == object.Unknown:
			out[name] = "refused"
		case n.Kind == object.List:
			var all []string
			for _, item := range n.Items {
				all = append(all, item.Text)
			}
			out[name] = fmt.Sprintf("%q", all)
		default:
			out[name] = shown(n)
		}
	}
	return out
}

// compare holds ours against the flags that a library says were set.
func compare(t *rapid.T, line []string, got, want map[string]string) {
	names := slices.Sorted(maps.Keys(want))
	if len(got) != len(want) {
		t.Fatalf("%q: got %v, want %v", line, got, want)
	}
	for _, name := range names {
		if got[name] != want[name] {
			t.Fatalf("%q: --%s is %s, want %s", line, name, got[name], want[name])
		}
	}
}

// TestPflag reads random command lines as pflag does, with the flags of
// kube-apiserver. Of a line that pflag refuses, the component does not start:
// nothing is claimed of it.
func TestPflag(t *testing.T) {
	c := components()["kube-apiserver"]
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		fs := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
		fs.SetOutput(io.Discard)
		fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
			return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
		})
		values := map[string]func() string{}
		for _, f := range c.flags {
			short := ""
			for letter, name := range shorthands {
				if name == f.name {
					short = string(letter)
				}
			}
			switch f.kind {
			case boolean:
				v := fs.BoolP(f.name, short, false, "")
				values[f.name] = func() string { return fmt.Sprint(*v) }
			case integer:
				v := fs.Int64P(f.name, short, 0, "")
				values[f.name] = func() string { return fmt.Sprint(*v) }
			case list:
				v := fs.StringSlice(f.name, nil, "")
				values[f.name] = func() string { return fmt.Sprintf("%q", *v) }
			case each:
				v := fs.StringArray(f.name, nil, "")
				values[f.name] = func() string { return fmt.Sprintf("%q", *v) }
			case text:
				v := fs.String(f.name, "", "")
				values[f.name] = func() string { return *v }
			default: // maps and durations: their words are read alike, their values elsewhere
				fs.String(f.name, "", "")
				values[f.name] = nil
			}
		}
		line := commandLine(t, c)
		if err := fs.Parse(line); err != nil {
			ours(c, line)
			return
		}
		accepted++
		want := map[string]string{}
		fs.Visit(func(f *pflag.Flag) {
			if values[f.Name] != nil {
				want[f.Name] = values[f.Name]()
			}
		})
		got := ours(c, line)
		for name := range got {
			if values[name] == nil {
				delete(got, name)
			}
		}
		compare(t, line, got, want)
	})
	if accepted < 20 {
		t.Errorf("pflag accepted only %d lines", accepted)
	}
}

// TestGoFlag does the same with Go's own package and the flags of etcd.
func TestGoFlag(t *testing.T) {
	c := components()["etcd"]
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		fs := goflag.NewFlagSet("etcd", goflag.ContinueOnError)
		fs.SetOutput(io.Discard)
		values := map[string]func() string{}
		for _, f := range c.flags {
			switch f.kind {
			case boolean:
				v := fs.Bool(f.name, false, "")
				values[f.name] = func() string { return fmt.Sprint(*v) }
			case integer:
				v := fs.Int64(f.name, 0, "")
				values[f.name] = func() string { return fmt.Sprint(*v) }
			case text:
				v := fs.String(f.name, "", "")
				values[f.name] = func() string { return *v }
			case list:
				v := fs.String(f.name, "", "")
				values[f.name] = func() string {
					if *v == "" {
						return "[]"
					}
					return fmt.Sprintf("%q", strings.Split(*v, ","))
				}
			default:
				fs.String(f.name, "", "")
				values[f.name] = nil
			}
		}
		line := commandLine(t, c)
		if err := fs.Parse(line); err != nil {
			ours(c, line)
			return
		}
		accepted++
		want := map[string]string{}
		fs.Visit(func(f *goflag.Flag) {
			if values[f.Name] != nil {
				want[f.Name] = values[f.Name]()
			}
		})
		got := ours(c, line)
		for name := range got {
			if values[name] == nil {
				delete(got, name)
			}
		}
		compare(t, line, got, want)
	})
	if accepted < 10 {
		t.Errorf("package flag accepted only %d lines", accepted)
	}
}

// FuzzFlags holds that no command line, whatever it is, ends the program, and
// that what is read of it is well formed.
func FuzzFlags(f *testing.F) {
	for _, s := range []string{
		"kube-apiserver --profiling=false", "sh -c \"exec kube-apiserver --x='a $(b) ${c} `d`\" # e", "etcd -cert-file \x00 --", "env A=b nice -n 5 etcd --auto-tls",
		"sh -c 'cat <<EOF\n$(etcd)\nEOF'", "sh -c \"sh -c 'sh -c \\\"etcd\\\"'\"", "hyperkube apiserver --feature-gates=kube:A=true,,=,:", "kube-apiserver -v=$(V) --$(X) {{ . }}",
		"sh -c '((((<(<<-'", "sh -c \"\\", "sh -c etcd<", "sh -c ${", "kube-apiserver --admission-control=" + strings.Repeat("a,", 1000),
	} {
		f.Add(s, " ", "ETCD_CERT_FILE", "$(V)")
	}
	f.Fuzz(func(t *testing.T, line, separator, name, value string) {
		words := []string{line}
		if separator != "" {
			words = strings.Split(line, separator)
		}
		command := make([]any, 0, len(words))
		for _, w := range words {
			command = append(command, w)
		}
		root := object.FromAny(map[string]any{
			"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "a"},
			"spec": map[string]any{"containers": []any{
				map[string]any{"name": "a", "command": command, "env": []any{map[string]any{"name": name, "value": value}}},
				map[string]any{"name": "b", "command": []any{"sh", "-c", line}, "env": []any{map[string]any{"name": name, "value": value}}},
			}},
		})
		objects, err := object.FromNode(root, &object.Origin{Source: "fuzz"})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range processes(objects[0], &facts.Env{Minor: 36}) {
			fact := p.fact(objects[0]).Root.Get("facts")
			if strings.ContainsRune(shown(fact.Get("flags")), unknown) {
				t.Errorf("a byte that stands for what is unknown got into %q", shown(fact.Get("flags")))
			}
			seen := map[string]bool{}
			for _, item := range fact.Get("explicit").Items {
				if seen[item.Text] {
					t.Errorf("--%s is listed twice", item.Text)
				}
				seen[item.Text] = true
			}
		}
	})
}
