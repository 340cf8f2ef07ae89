// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/regoguard"
)

// ruleName are the names of the rules that say what is wrong.
var ruleName = regexp.MustCompile(`^(deny|violation|warn)(_[a-zA-Z0-9]+)*$`)

// IsRule says whether rules of that name say what is wrong with a document.
func IsRule(name string) bool { return ruleName.MatchString(name) }

// entry is a rule by its package and name, with all its clauses.
type entry struct {
	path    ast.Ref // of the package
	name    string
	clauses []*ast.Rule
}

func (e *entry) ref() ast.Ref { return e.path.Append(ast.StringTerm(e.name)) }

// Set returns the rules, in the order of their packages and names.
func (m *Modules) Set() *policy.Set {
	set := &policy.Set{Problems: m.problems}
	names := map[string]int{}
	exceptions := m.exceptions()
	for _, e := range m.entries() {
		r, err := m.rule(e, exceptions[e.path.String()])
		if err != nil {
			set.Problems = append(set.Problems, policy.Problem{Object: object.Ref{Kind: "Package", Name: packageName(e.path)}, Position: position(e.clauses[0]), Message: err.Error()})
			continue
		}
		if n := names[r.info.Name]; n > 0 {
			r.info.Name = fmt.Sprintf("%s-%d", r.info.Name, n+1)
		}
		names[r.info.Name]++
		set.Rules = append(set.Rules, r)
	}
	return set
}

// entries returns the rules that say what is wrong.
func (m *Modules) entries() []*entry {
	byRef := map[string]*entry{}
	for _, file := range slices.Sorted(maps.Keys(m.compiler.Modules)) {
		module := m.compiler.Modules[file]
		for _, r := range module.Rules {
			name := headName(r)
			if len(r.Head.Args) > 0 || !IsRule(name) {
				continue
			}
			key := module.Package.Path.String() + "." + name
			if byRef[key] == nil {
				byRef[key] = &entry{path: module.Package.Path, name: name}
			}
			byRef[key].clauses = append(byRef[key].clauses, r)
		}
	}
	return slices.SortedFunc(maps.Values(byRef), func(a, b *entry) int {
		return cmp.Or(strings.Compare(a.path.String(), b.path.String()), strings.Compare(a.name, b.name))
	})
}

// exceptions returns the packages that have rules named exception.
func (m *Modules) exceptions() map[string]bool {
	out := map[string]bool{}
	for _, module := range m.compiler.Modules {
		for _, r := range module.Rules {
			if headName(r) == "exception" {
				out[module.Package.Path.String()] = true
			}
		}
	}
	return out
}

// headName is the name of a rule: deny, for deny[msg] and for deny contains msg.
func headName(r *ast.Rule) string {
	ref := r.Head.Ref()
	if len(ref) == 0 {
		return ""
	}
	name, _ := ref[0].Value.(ast.Var)
	return string(name)
}

// rule makes a rule of an entry.
func (m *Modules) rule(e *entry, excepted bool) (*rule, error) {
	r := &rule{modules: m, info: m.describe(e), kinds: m.kinds(e)}
	used, unsupported := m.needs(e, excepted)
	r.clock, r.network = used.clock, used.network
	r.info.Unsupported = unsupported
	var err error
	if r.query, err = m.query(ast.Equality.Expr(ast.VarTerm(resultVar), ast.NewTerm(e.ref()))); err != nil {
		return nil, err
	}
	if !excepted {
		return r, nil
	}
	any1, any2 := ast.VarTerm("$1"), ast.VarTerm("$2")
	ref := e.path.Append(ast.StringTerm("exception")).Append(any1).Append(any2)
	r.exception, err = m.query(ast.Equality.Expr(ast.NewTerm(ref), ast.StringTerm(exceptionWord(e.name))))
	return r, err
}

// exceptionWord is what exceptions call a rule: what stands behind deny_, and
// nothing for deny itself.
func exceptionWord(name string) string {
	_, word, _ := strings.Cut(name, "_")
	return word
}

// query compiles an expression that is evaluated over each document.
func (m *Modules) query(e *ast.Expr) (body ast.Body, err error) {
	defer recovered(&err, "compiling")
	return m.compiler.QueryCompiler().Compile(ast.NewBody(e))
}

// needs returns what a rule calls, itself or through others, and why it cannot
// be run.
func (m *Modules) needs(e *entry, excepted bool) (used uses, unsupported string) {
	roots := slices.Clone(e.clauses)
	if excepted {
		for _, module := range m.compiler.Modules {
			for _, r := range module.Rules {
				if module.Package.Path.Equal(e.path) && headName(r) == "exception" {
					roots = append(roots, r)
				}
			}
		}
	}
	file := m.brokenFile(e.path)
	conftest, missing := false, ""
	for _, r := range m.reachable(roots) {
		ast.WalkRefs(r, func(ref ast.Ref) bool {
			if !ref.HasPrefix(ast.DefaultRootRef) {
				used.add(regoguard.Plain(ref.String()))
				return false
			}
			file = cmp.Or(file, m.brokenFile(ref.GroundPrefix()))
			conftest = conftest || ref.HasPrefix(conftestRef)
			missing = cmp.Or(missing, m.missing(ref))
			return false
		})
	}
	switch {
	case file != "":
		unsupported = fmt.Sprintf("it needs %s, which is refused", file)
	case used.refused != "":
		unsupported = fmt.Sprintf("it calls %s: %s", used.refused, used.why)
	case conftest:
		unsupported = "it reads data.conftest: the name of the file is not told to rules"
	case missing != "":
		unsupported = fmt.Sprintf("it reads %s, which is not among the policies and not in data beside them (data.yaml, data.json, or a folder data)", missing)
	}
	return used, unsupported
}

// conftestRef is where conftest says which file a document is from.
var conftestRef = ast.MustParseRef("data.conftest")

// missing returns how far a reference leads to nothing, neither to a package or a
// rule nor to what was read as data; "" where it does not, as far as it can be
// followed. What a rule or a document says is its own matter.
func (m *Modules) missing(ref ast.Ref) string {
	tree := m.compiler.RuleTree.Child(ref[0].Value)
	var data any = m.data
	for i, term := range ref[1:] {
		fields, isMap := data.(map[string]any)
		if tree != nil && len(tree.Values) > 0 || data != nil && !isMap || !constant(term) {
			return ""
		}
		name, _ := term.Value.(ast.String)
		field, there := fields[string(name)]
		if tree != nil {
			tree = tree.Child(term.Value)
		}
		switch {
		case tree == nil && !there:
			return ref[:i+2].String()
		case tree == nil && field == nil:
			return "" // it says null
		}
		data = field
	}
	return ""
}

// constant says whether a part of a reference is written there.
func constant(t *ast.Term) bool {
	switch t.Value.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return true
	}
	return false
}

// brokenFile returns a refused file that a reference may be about.
func (m *Modules) brokenFile(ref ast.Ref) string {
	for _, b := range m.broken {
		if ref.HasPrefix(b.path) || b.path.HasPrefix(ref) {
			return b.file
		}
	}
	return ""
}

// reachable returns the clauses and those of all rules that they refer to.
func (m *Modules) reachable(roots []*ast.Rule) []*ast.Rule {
	seen := map[*ast.Rule]bool{}
	var out []*ast.Rule
	for todo := roots; len(todo) > 0; {
		r := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[r] {
			continue
		}
		seen[r] = true
		out = append(out, r)
		if r.Else != nil {
			todo = append(todo, r.Else)
		}
		for dep := range m.compiler.Graph.Dependencies(util.T(r)) {
			if d, ok := dep.(*ast.Rule); ok {
				todo = append(todo, d)
			}
		}
	}
	return out
}

func position(r *ast.Rule) object.Position {
	l := r.Loc()
	if l == nil {
		return object.Position{}
	}
	return object.Position{File: l.File, Line: l.Row, Column: l.Col}
}

// describe says what a rule is, from its annotations.
func (m *Modules) describe(e *entry) policy.Info {
	pkg := packageName(e.path)
	info := policy.Info{
		Name:     policy.Name(policy.Rego, pkg, e.name),
		Language: policy.Rego,
		Policy:   object.Ref{Kind: "Package", Name: pkg},
		Severity: v1alpha1.Medium,
		Action:   v1alpha1.Deny,
		Position: position(e.clauses[0]),
	}
	if strings.HasPrefix(e.name, "warn") {
		info.Action = v1alpha1.Warn
	}
	rank := 0
	for _, a := range m.annotations(e) {
		info.Title = cmp.Or(info.Title, a.Title)
		info.Description = cmp.Or(info.Description, strings.TrimSpace(a.Description))
		info.Remediation = cmp.Or(info.Remediation, custom(a, "remediation", "fix"))
		info.Topic = cmp.Or(info.Topic, custom(a, "category", "topic"))
		if s, r := severity(custom(a, "severity")); r > rank {
			info.Severity, rank = s, r
		}
	}
	info.Title = cmp.Or(info.Title, pkg+"."+e.name)
	return info
}

// annotations returns what is said of a rule: of its document, of its clauses,
// and of its package.
func (m *Modules) annotations(e *entry) []*ast.Annotations {
	set := m.compiler.GetAnnotationSet()
	if set == nil {
		return nil
	}
	var out []*ast.Annotations
	if a := set.GetDocumentScope(e.ref()); a != nil {
		out = append(out, a)
	}
	for _, r := range e.clauses {
		out = append(out, set.GetRuleScope(r)...)
	}
	for _, r := range e.clauses {
		if a := set.GetPackageScope(r.Module.Package); a != nil {
			return append(out, a)
		}
	}
	return out
}

// custom returns the first of several custom annotations that is a text.
func custom(a *ast.Annotations, keys ...string) string {
	for _, k := range keys {
		if s, ok := a.Custom[k].(string); ok && s != "" {
			return s
		}
	}
	return ""
}

// severity reads a severity as people write it.
func severity(s string) (v1alpha1.Severity, int) {
	switch strings.ToLower(s) {
	case "critical":
		return v1alpha1.Critical, 4
	case "high", "error":
		return v1alpha1.High, 3
	case "medium", "moderate", "warning":
		return v1alpha1.Medium, 2
	case "low", "info", "informational", "notice":
		return v1alpha1.Low, 1
	}
	return v1alpha1.Medium, 0
}
