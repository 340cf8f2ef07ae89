// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"embed"
	"slices"
	"strconv"
	"strings"
	"sync"

	"sconce.dev/sconce/object"
)

// component is a program of a control plane.
type component struct {
	// kind is that of the fact, name that of the program.
	kind, name string
	// alias is what hyperkube calls the component.
	alias string
	// goFlags is set for a program that reads its flags with Go's package flag,
	// which knows no shorthands, and whose lists hold what was given last;
	// the others read them with pflag.
	goFlags bool
	// environment is the prefix of the variables that stand for flags which are
	// not set; empty where there are none.
	environment string
	flags       []flag
	byName      map[string]*flag
}

// flag is a flag of a component.
type flag struct {
	name string
	kind flagKind
	// defaults are what holds where it is not set, the newest first.
	defaults []since
}

// since is what holds from a minor version of Kubernetes on.
type since struct {
	minor int
	value *object.Node
}

// flagKind says how the values of a flag are read.
type flagKind string

const (
	text     flagKind = "string"
	boolean  flagKind = "bool"
	integer  flagKind = "int"
	duration flagKind = "duration"
	list     flagKind = "list" // values with commas between
	each     flagKind = "each" // one value each time that it is given
	mapping  flagKind = "map"  // key=value, with commas between
	gates    flagKind = "gates"
)

//go:embed flags/*.txt
var data embed.FS

// components are the programs, by their names.
var components = sync.OnceValue(func() map[string]*component {
	out := map[string]*component{}
	for _, c := range []*component{
		{kind: "APIServer", name: "kube-apiserver", alias: "apiserver"},
		{kind: "ControllerManager", name: "kube-controller-manager", alias: "controller-manager"},
		{kind: "Scheduler", name: "kube-scheduler", alias: "scheduler"},
		{kind: "Etcd", name: "etcd", goFlags: true, environment: "ETCD_"},
	} {
		c.read()
		out[c.name] = c
	}
	return out
})

// read reads the table of the component's flags. A test holds that all of them
// can be read.
func (c *component) read() {
	for _, line := range lines("flags/" + c.name + ".txt") {
		f := flag{name: line[0], kind: flagKind(line[1])}
		for _, word := range line[2:] {
			minor, value, ok := strings.Cut(word, "=")
			if !ok {
				minor, value = "1.0", word
			}
			f.defaults = append([]since{{minorOf(minor), c.value(&f, []given{{value: value}})}}, f.defaults...)
		}
		c.flags = append(c.flags, f)
	}
	c.byName = make(map[string]*flag, len(c.flags))
	for i := range c.flags {
		c.byName[c.flags[i].name] = &c.flags[i]
	}
}

// lines returns the words of every line of a table.
func lines(file string) [][]string {
	text, _ := data.ReadFile(file) // it is part of the program
	var out [][]string
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
			out = append(out, words)
		}
	}
	return out
}

// minorOf returns 36 for 1.36.
func minorOf(version string) int {
	minor, _ := strconv.Atoi(strings.TrimPrefix(version, "1."))
	return minor
}

// flag returns what is known of a flag, or nil.
func (c *component) flag(name string) *flag { return c.byName[name] }

// standard is what holds where the flag is not set, or nil.
func (f *flag) standard(minor int) *object.Node {
	for _, d := range f.defaults {
		if minor >= d.minor {
			return d.value
		}
	}
	return nil
}

// plugins are the admission plugins that are on by default, and since which
// minor version.
var plugins = sync.OnceValue(func() [][]string { return lines("flags/admission-plugins.txt") })

// usualPlugins are the admission plugins that are on by default.
func usualPlugins(minor int) []string {
	var out []string
	for _, line := range plugins() {
		if minor >= minorOf(line[1]) && (len(line) < 3 || minor < minorOf(line[2])) {
			out = append(out, line[0])
		}
	}
	return out
}

// elsewhere returns why a flag does not tell what holds: a file that another
// flag names decides it.
func (c *component) elsewhere(s *settings, name string, set bool) string {
	named := func(file string) string {
		if values := s.flags[file]; values == nil || values[len(values)-1].value == "" && values[len(values)-1].why == "" {
			return ""
		}
		return "the file that --" + file + " names takes the place of flags"
	}
	switch {
	case c.kind == "APIServer" && name == "authorization-mode":
		if reason := named("authorization-config"); reason != "" {
			return reason
		}
	case c.kind == "APIServer" && name == "anonymous-auth" && !set:
		if reason := named("authentication-config"); reason != "" {
			return reason
		}
	case c.kind == "Scheduler" && slices.Contains([]string{"profiling", "contention-profiling", "kubeconfig", "kube-api-content-type", "kube-api-qps", "kube-api-burst"}, name):
		return named("config")
	case c.kind == "Etcd" && name != "config-file":
		return named("config-file")
	}
	if c.kind == "APIServer" && !set {
		return named("openshift-config")
	}
	return ""
}
