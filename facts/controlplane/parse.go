// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// word is one word of a command line.
type word struct {
	// text is the word, or what is known of its beginning.
	text string
	// why says why the rest is not known; empty where there is none.
	why string
	// from is where in the object the word stands.
	from object.Path
}

// given is a value that a flag is given.
type given struct {
	value, why string
	from       object.Path
}

// settings are what a command line sets.
type settings struct {
	flags map[string][]given
	order []string // the names, as they come first
	// hole says why any flag may be set besides, or in another way.
	hole string
	// rest says why the flags that are not set here may be set elsewhere.
	rest string
}

func (s *settings) add(name string, g given) {
	if s.flags == nil {
		s.flags = map[string][]given{}
	}
	if _, ok := s.flags[name]; !ok {
		s.order = append(s.order, name)
	}
	s.flags[name] = append(s.flags[name], g)
}

// from is where a flag is set, at last; nil where it is not.
func (s *settings) from(name string) object.Path {
	values := s.flags[name]
	if len(values) == 0 {
		return nil
	}
	return values[len(values)-1].from
}

// parse reads the words that follow the program's name as the program does. What
// it would refuse to start with is left out.
func (c *component) parse(words []word) *settings {
	s := &settings{}
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		switch {
		case w.why != "" && len(w.text) < 3 && strings.Trim(w.text, "-") == "":
			s.hole = w.why // any flag at all
		case len(w.text) < 2 || w.text[0] != '-':
			if c.goFlags {
				return s
			}
		case w.text == "--":
			return s
		case w.text[1] == '-' || c.goFlags:
			words = c.long(s, w, words)
		default:
			words = c.short(s, w, words)
		}
	}
	return s
}

// long reads --name=value, --name value and --name, and returns the words that
// are left.
func (c *component) long(s *settings, w word, rest []word) []word {
	name, value, hasValue := strings.Cut(strings.TrimPrefix(w.text[1:], "-"), "=")
	switch {
	case w.why != "" && !hasValue:
		s.hole = w.why
		return rest
	case name == "" || name[0] == '-':
		return rest
	}
	if !c.goFlags {
		name = strings.ReplaceAll(name, "_", "-")
	}
	g := given{value: value, why: w.why, from: w.from}
	if !hasValue {
		var took, ok bool
		if g.value, g.why, took, ok = c.next(s, name, rest); !ok {
			return rest
		}
		if took {
			rest = rest[1:]
		}
	}
	s.add(name, g)
	return rest
}

// next returns the value of a flag that stands alone, and whether that is the
// next word.
func (c *component) next(s *settings, name string, rest []word) (value, why string, took, ok bool) {
	f := c.flag(name)
	switch {
	case f != nil && f.kind == boolean:
		return "true", "", false, true
	case f == nil && (len(rest) == 0 || strings.HasPrefix(rest[0].text, "-")):
		// No component takes words that are no flags: what follows a flag that is
		// not in the table, and is none itself, is its value.
		return "true", "", false, true
	case len(rest) == 0:
		return "", "", false, false
	case f == nil && rest[0].why != "" && rest[0].text == "":
		s.hole = rest[0].why
	}
	return rest[0].text, rest[0].why, true, true
}

// shorthands are the flags of one letter, which all that use pflag have.
var shorthands = map[byte]string{'h': "help", 'v': "v"}

// short reads -v=2, -v2 and -v 2, and returns the words that are left.
func (c *component) short(s *settings, w word, rest []word) []word {
	for letters := w.text[1:]; letters != ""; {
		name, known := shorthands[letters[0]]
		if !known {
			return rest
		}
		letters = letters[1:]
		g := given{value: "true", from: w.from}
		switch {
		case w.why != "":
			g.why, letters = w.why, ""
		case len(letters) > 1 && letters[0] == '=':
			g.value, letters = letters[1:], ""
		case c.flag(name).kind == boolean:
		case letters != "":
			g.value, letters = letters, ""
		case len(rest) == 0:
			return rest
		default:
			g.value, g.why = rest[0].text, rest[0].why
			rest = rest[1:]
		}
		s.add(name, g)
	}
	return rest
}

// value is what a flag comes to that is given some values; nil where that is an
// empty list or map.
func (c *component) value(f *flag, values []given) *object.Node {
	last := values[len(values)-1]
	many := f.kind == each || f.kind == mapping || f.kind == gates || f.kind == list && !c.goFlags
	if !many {
		values = values[len(values)-1:]
	}
	for _, v := range values {
		if v.why != "" {
			return object.NewUnknown(v.why)
		}
	}
	switch f.kind {
	case boolean:
		if b, err := strconv.ParseBool(last.value); err == nil {
			return object.NewBool(b)
		}
		return unreadable(f, "true or false")
	case integer:
		if i, err := strconv.ParseInt(last.value, 0, 64); err == nil {
			return object.NewInt(i)
		}
		return unreadable(f, "a whole number")
	case duration:
		if _, err := time.ParseDuration(last.value); err != nil {
			return unreadable(f, "a duration")
		}
	case list:
		return c.list(f, values)
	case each:
		out := facts.List()
		for _, v := range values {
			out.Items = append(out.Items, object.NewString(v.value))
		}
		return out
	case mapping, gates:
		return pairs(f, values)
	}
	return object.NewString(last.value)
}

func unreadable(f *flag, want string) *object.Node {
	return object.NewUnknown(fmt.Sprintf("the value of --%s is not %s", f.name, want))
}

// list reads lists with commas between their values.
func (c *component) list(f *flag, values []given) *object.Node {
	out := facts.List()
	for _, v := range values {
		if v.value == "" {
			continue
		}
		items := strings.Split(v.value, ",")
		if !c.goFlags {
			var err error
			if items, err = csv.NewReader(strings.NewReader(v.value)).Read(); err != nil {
				return unreadable(f, "a list")
			}
		}
		out.Items = append(out.Items, facts.Strings(items).Items...)
	}
	if len(out.Items) == 0 {
		return nil
	}
	return out
}

// pairs reads key=value with commas between. A feature gate may have the name of
// a component in front: only those of Kubernetes itself are kept.
func pairs(f *flag, values []given) *object.Node {
	out := facts.Map()
	at := map[string]int{}
	for _, v := range values {
		for pair := range strings.SplitSeq(v.value, ",") {
			if f.kind == gates {
				component, gate, ok := strings.Cut(pair, ":")
				if ok && strings.TrimSpace(component) != "kube" {
					continue
				}
				if ok {
					pair = gate
				}
			}
			if strings.TrimSpace(pair) == "" {
				continue
			}
			key, value, _ := strings.Cut(pair, "=")
			key = strings.TrimSpace(key)
			node := object.NewString(strings.TrimSpace(value))
			if f.kind == gates {
				b, err := strconv.ParseBool(node.Text)
				if err != nil {
					return unreadable(f, "a list of name=true or name=false")
				}
				node = object.NewBool(b)
			}
			if i, ok := at[key]; ok {
				out.Fields[i].Value = node
				continue
			}
			at[key] = len(out.Fields)
			out.Fields = append(out.Fields, facts.Field(key, node))
		}
	}
	if len(out.Fields) == 0 {
		return nil
	}
	return out
}
