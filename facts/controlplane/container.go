// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/object"
)

// inPod returns the components that the containers of a pod start.
func inPod(root *object.Node, at object.Path, minor int) []*process {
	spec := root.Lookup(at).Get("spec")
	var out []*process
	for _, name := range object.ContainerLists {
		list := spec.Get(name)
		if list == nil {
			continue
		}
		for i, item := range list.Items {
			if !mayStart(item) {
				continue
			}
			c := &container{
				node: item, minor: minor, hostNetwork: object.NewBool(false),
				at: at.Append(object.Step{Field: "spec"}, object.Step{Field: name}, object.ItemStep(list, i)),
			}
			if own := spec.Get("hostNetwork"); own != nil {
				c.hostNetwork, c.network = own, at.Fields("spec", "hostNetwork")
			}
			out = append(out, c.processes()...)
		}
	}
	return out
}

// mayStart says whether a container could start a component; nearly none could,
// and that is found out without looking closer.
func mayStart(c *object.Node) bool {
	named := func(n *object.Node) bool {
		return n.Kind == object.String && (strings.Contains(n.Text, "etcd") || strings.Contains(n.Text, "kube-") || strings.Contains(n.Text, "hyperkube"))
	}
	for _, field := range [...]string{"command", "args"} {
		if list := c.Get(field); list != nil && slices.ContainsFunc(list.Items, named) {
			return true
		}
	}
	image := c.Get("image")
	return image != nil && named(image)
}

// container is a container whose command line is read.
type container struct {
	node        *object.Node
	at          object.Path
	minor       int
	hostNetwork *object.Node
	network     object.Path
	env         environment
}

// found is a component in a command line.
type found struct {
	component *component
	words     []word // what follows the program's name
	program   word
	vars      []variable // set for it in a script
	script    bool
}

// processes returns the components that the container starts.
func (c *container) processes() []*process {
	c.env = readEnvironment(c.node, c.at)
	words := append(c.words("command"), c.words("args")...)
	all := c.find(words, 0)
	if len(all) == 0 {
		all = c.byImage(words)
	}
	var out []*process
	for _, f := range all {
		s := f.component.parse(f.words)
		if s.flags["version"] != nil || s.flags["help"] != nil {
			continue // it says something and ends
		}
		if f.component.environment != "" {
			c.env.with(f.vars).set(f.component, s)
		}
		p := &process{component: f.component, settings: s, place: c.place(f), minor: c.minor, hostNetwork: c.hostNetwork, network: c.network}
		if f.component.kind != "Etcd" {
			p.minor = imageMinor(c.node.Get("image").Str(), c.minor)
		}
		out = append(out, p)
	}
	return out
}

// place is where a flag would be added: the list in which the last word stands,
// or the script.
func (c *container) place(f found) object.Path {
	last := f.program.from
	if len(f.words) > 0 {
		last = f.words[len(f.words)-1].from
	}
	if f.script || len(last) == 0 {
		return last
	}
	return last[:len(last)-1]
}

// words returns the items of command or args with what Kubernetes puts in place
// of variables.
func (c *container) words(field string) []word {
	at := c.at.Fields(field)
	n := c.node.Get(field)
	switch {
	case n == nil:
		return nil
	case n.Kind == object.Unknown:
		return []word{{why: n.Text, from: at}}
	case n.Kind != object.List:
		return []word{{why: n.Kind.A() + " stands where a list is expected", from: at}}
	}
	var out []word
	for i, item := range n.Items {
		w := word{from: at.Append(object.ItemStep(n, i))}
		switch item.Kind {
		case object.String:
			w.text, w.why = item.Text, ""
		case object.Unknown:
			w.why = item.Text
		default:
			w.why = item.Kind.A() + " stands where a string is expected"
		}
		out = append(out, w)
	}
	return out
}

// literal returns the word with what Kubernetes puts in place of $(VARIABLES),
// up to where it is no longer known.
func (c *container) literal(w word) word {
	if w.why == "" {
		w.text, w.why = c.env.expand(w.text, false)
		if i := strings.IndexByte(w.text, unknown); i >= 0 {
			w.text = w.text[:i]
		}
	}
	return w
}

// byImage knows a component by its image, where the image says what is run and
// the container only with which flags.
func (c *container) byImage(words []word) []found {
	image, _, _ := strings.Cut(c.node.Get("image").Str(), "@")
	name, _, _ := strings.Cut(path.Base(image), ":")
	component := components()[name]
	if component == nil || c.node.Get("command") != nil || len(words) == 0 || !strings.HasPrefix(words[0].text, "-") {
		return nil
	}
	f := found{component: component, program: words[0]}
	for _, w := range words {
		f.words = append(f.words, c.literal(w))
	}
	return []found{f}
}

var versionTag = regexp.MustCompile(`:v?1\.(\d{1,3})\.\d`)

// imageMinor returns the minor version of Kubernetes that a tag names.
func imageMinor(image string, otherwise int) int {
	m := versionTag.FindStringSubmatch(image)
	if m == nil {
		return otherwise
	}
	minor, _ := strconv.Atoi(m[1])
	return minor
}

// wrappers are programs that run the one that their arguments name, and how many
// words they take before it beside flags and numbers.
var wrappers = map[string]int{
	"go-runner": 0, "kube-log-runner": 0, "hyperkube": 0, "watch-termination": 0, "flock": 1, "tini": 0, "dumb-init": 0, "catatonit": 0, "env": 0, "nice": 0, "ionice": 0, "nohup": 0,
	"exec": 0, "command": 0, "sudo": 0, "timeout": 1, "gosu": 1, "su-exec": 1,
}

var shells = map[string]bool{"sh": true, "bash": true, "ash": true, "dash": true, "ksh": true, "zsh": true}

// keywords are what may stand before a command in a script.
var keywords = map[string]bool{
	"if": true, "then": true, "elif": true, "else": true, "while": true, "until": true, "do": true, "!": true, "{": true, "time": true, "builtin": true, "export": true,
}

// maxDepth is how many shells may run one in the other.
const maxDepth = 4

// find returns the components that a command line starts. In a script, where
// depth is above 0, words are already what they stand for.
func (c *container) find(words []word, depth int) []found {
	var vars []variable
	for len(words) > 0 {
		w := words[0]
		if depth == 0 {
			w = c.literal(w)
		}
		if w.why != "" {
			return nil
		}
		name := path.Base(w.text)
		wrapped := components()[name]
		operands, wraps := wrappers[name]
		switch {
		case wrapped != nil:
			return []found{c.found(wrapped, w, words[1:], vars, depth)}
		case shells[name]:
			return c.findInScript(words[1:], depth)
		case name == "busybox":
			words = words[1:]
		case wraps:
			words = skipOptions(words[1:], operands)
			if name == "hyperkube" && len(words) > 0 {
				words = fullName(words)
			}
		case depth > 0 && keywords[w.text]:
			words = words[1:]
		case assignment.MatchString(w.text) && (depth > 0 || len(vars) > 0 || len(words) > 1):
			key, value, _ := strings.Cut(w.text, "=")
			vars = append(vars, variable{name: key, value: value, from: w.from})
			words = words[1:]
		default:
			return nil
		}
	}
	return nil
}

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// found is a component, with its words as they reach it.
func (c *container) found(of *component, program word, words []word, vars []variable, depth int) found {
	f := found{component: of, program: program, vars: vars, script: depth > 0}
	for _, w := range words {
		if depth == 0 {
			w = c.literal(w)
		}
		f.words = append(f.words, w)
	}
	return f
}

// skipOptions leaves out a wrapper's own flags, numbers and operands.
func skipOptions(words []word, operands int) []word {
	for len(words) > 0 {
		t := words[0].text
		_, err := strconv.ParseFloat(strings.TrimRight(t, "smhd"), 64)
		switch {
		case strings.HasPrefix(t, "-"):
		case operands > 0:
			operands--
		case err == nil:
		default:
			return words
		}
		words = words[1:]
	}
	return nil
}

// fullName puts the name of the program in place of what hyperkube calls it.
func fullName(words []word) []word {
	for _, c := range components() {
		if c.alias != "" && words[0].text == c.alias {
			first := words[0]
			first.text = c.name
			return append([]word{first}, words[1:]...)
		}
	}
	return words
}

// findInScript returns the components that a shell starts with the script that
// it is given with -c.
func (c *container) findInScript(words []word, depth int) []found {
	if depth == maxDepth {
		return nil
	}
	isCommand := false
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		switch {
		case w.text == "-o" || w.text == "+o" || w.text == "-O":
			if len(words) > 0 {
				words = words[1:]
			}
		case strings.HasPrefix(w.text, "-") || strings.HasPrefix(w.text, "+"):
			isCommand = isCommand || !strings.HasPrefix(w.text, "--") && strings.Contains(w.text, "c")
		case !isCommand || w.why != "":
			return nil // a file that is not here
		default:
			return c.script(w, depth)
		}
	}
	return nil
}

// script returns the components that a script starts.
func (c *container) script(w word, depth int) []found {
	text, why := w.text, ""
	if depth == 0 {
		text, why = c.env.expand(w.text, true)
	}
	var out []found
	for _, command := range shellCommands(text, why, w.from, c.env.inShell(text)) {
		out = append(out, c.find(command, depth+1)...)
	}
	return out
}
