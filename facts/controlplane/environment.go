// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"slices"
	"strings"

	"sconce.dev/sconce/object"
)

// variable is a variable of a container's environment.
type variable struct {
	name, value string
	// why says why the value is not known.
	why  string
	from object.Path
}

// environment is what a container's env says.
type environment struct {
	vars []variable
	// open says why there may be more.
	open string
	// grown is how many bytes of values were put in place of variables.
	grown int
}

// What values may take the place of variables, in bytes: in one text and in all
// that a container is started with. Kubernetes expands a variable in the next
// one, so that each line may double what the one before comes to; Linux starts
// no program with an argument of more than 128 KiB.
const (
	maxExpanded = 64 << 10
	maxGrown    = 256 << 10
)

// grow says why a value may not take the place of a variable, in a text in which
// values of so many bytes did already; empty where it may.
func (e *environment) grow(value string, already int) string {
	if already+len(value) > maxExpanded || e.grown+len(value) > maxGrown {
		return "variables make it too long"
	}
	e.grown += len(value)
	return ""
}

// readEnvironment reads env and envFrom of a container.
func readEnvironment(container *object.Node, at object.Path) environment {
	e := readVariables(container.Get("env"), at.Fields("env"))
	switch from := container.Get("envFrom"); {
	case from == nil:
	case from.Kind == object.Unknown:
		e.open = from.Text
	case len(from.Items) > 0:
		e.open = "envFrom may set it"
	}
	return e
}

// readVariables reads a list of variables.
func readVariables(list *object.Node, at object.Path) environment {
	var e environment
	switch {
	case list == nil:
		return e
	case list.Kind != object.List:
		e.open = list.Text
		if list.Kind != object.Unknown {
			e.open = "env is " + list.Kind.A() + ", not a list"
		}
		return e
	}
	for i, item := range list.Items {
		v := variable{name: item.Get("name").Str(), from: at.Append(object.ItemStep(list, i))}
		switch value := item.Get("value"); {
		case item.Kind == object.Unknown:
			e.open = item.Text
			continue
		case v.name == "":
			continue
		case value == nil && item.Get("valueFrom") != nil:
			v.why = "the variable " + v.name + " is read from somewhere else"
		case value == nil:
		case value.Kind == object.String:
			v.value, v.why = e.expand(value.Text, false)
		case value.Kind == object.Unknown:
			v.why = value.Text
		default:
			v.why = "the variable " + v.name + " is " + value.Kind.A() + ", not a string"
		}
		e.vars = append(e.vars, v)
	}
	return e
}

// lookup returns a variable; the last of its name counts.
func (e *environment) lookup(name string) (variable, bool) {
	for _, v := range slices.Backward(e.vars) {
		if v.name == name {
			return v, true
		}
	}
	return variable{}, false
}

// with returns the environment with more variables.
func (e *environment) with(vars []variable) *environment {
	return &environment{vars: append(slices.Clip(e.vars), vars...), open: e.open}
}

// unknown stands in an expanded text for what is not known. No argument and no
// variable of a process can hold this byte.
const unknown = 0

// expand puts the values of variables in place of $(NAME), as Kubernetes does in
// command, args and env; $$ stands for one $. What is not known becomes a byte
// of its own, and why says why. What a template is to fill in, ${NAME} and {{
// }}, is not known either, but in a script the first of these is the shell's.
func (e *environment) expand(s string, script bool) (out, why string) {
	if !strings.ContainsAny(s, "$\x00") && !strings.Contains(s, "{{") {
		return s, ""
	}
	var b strings.Builder
	last, grown := strings.LastIndexByte(s, ')'), 0
	not := func(reason string) {
		b.WriteByte(unknown)
		if why == "" {
			why = reason
		}
	}
	for i := 0; i < len(s); i++ {
		rest := s[i:]
		switch {
		case s[i] == unknown:
			not("it holds a byte that no argument can hold")
		case strings.HasPrefix(rest, "{{") || strings.HasPrefix(rest, "${") && !script:
			not("a template is to fill it in")
		case strings.HasPrefix(rest, "$$"):
			b.WriteByte('$')
			i++
		case strings.HasPrefix(rest, "$(") && i < last:
			name := rest[2:strings.IndexByte(rest, ')')]
			v, ok := e.lookup(name)
			switch {
			case ok && v.why != "":
				not(v.why)
			case ok:
				if long := e.grow(v.value, grown); long != "" {
					not(long)
					break
				}
				grown += len(v.value)
				b.WriteString(v.value)
			case script:
				b.WriteString(rest[:len(name)+3]) // the shell runs it as a command
			case e.open != "":
				not("the variable " + name + " is not known: " + e.open)
			default:
				not("the variable " + name + " is not set here")
			}
			i += len(name) + 2
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), why
}

// inShell returns how a script sees the variables. One that the script sets
// itself is not known.
func (e *environment) inShell(script string) func(name string) (string, string) {
	seen := map[string]variable{}
	grown := 0
	return func(name string) (value, why string) {
		v, ok := seen[name]
		if !ok {
			v, ok = e.lookup(name)
			switch {
			case !ok:
				v = variable{why: "the variable " + name + " is not set here"}
			case strings.Contains(script, name+"="):
				v = variable{why: "the script sets the variable " + name}
			}
			seen[name] = v
		}
		if v.why != "" {
			return v.value, v.why
		}
		if long := e.grow(v.value, grown); long != "" {
			return "", long
		}
		grown += len(v.value)
		return v.value, ""
	}
}

// set adds the flags that variables stand for to those of a command line.
func (e *environment) set(c *component, s *settings) {
	named := map[string]variable{}
	for _, v := range e.vars {
		if name, ok := strings.CutPrefix(v.name, c.environment); ok {
			named[strings.ToLower(strings.ReplaceAll(name, "_", "-"))] = v
		}
	}
	for i := range c.flags {
		f := &c.flags[i]
		v, ok := named[f.name]
		if ok && s.flags[f.name] == nil && (v.value != "" || v.why != "") {
			s.add(f.name, given{value: v.value, why: v.why, from: v.from})
		}
	}
	s.rest = e.open
}
