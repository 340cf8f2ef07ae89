// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"bytes"
	gocontext "context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policytest"
	"sconce.dev/sconce/policytest/kyvernotest"
)

// Reader returns a file by its path with slashes.
type Reader func(name string) ([]byte, error)

// Suite is a file of tests of policies of another language.
type Suite struct {
	File string
	// Run runs the tests with what a reader gives.
	Run func(gocontext.Context, Reader) (*policytest.Report, error)
}

// workers is how many suites are run at a time.
func workers() int { return runtime.GOMAXPROCS(0) }

// maxForeign is how many mutants of a policy are tried.
const maxForeign = 300

// Policies returns, for each policy of other languages that suites test, what
// changes it in one place after the other and runs the suites that read it
// against each of these mutants. A mutant is noticed where a case that passes
// with the policy fails with it; one that Kyverno passes because nothing is left
// to be compared has changed, too. One that cannot be read as a policy, or of which
// every case that changes can no longer be decided, says nothing: it is invalid,
// and left out of the score.
func Policies(ctx gocontext.Context, suites []Suite, read Reader) []func() *Report {
	f := &foreign{read: read, suites: map[string][]*baselineRun{}}
	runs := make([]*baselineRun, len(suites))
	var wait sync.WaitGroup
	free := make(chan struct{}, workers())
	for i := range suites {
		free <- struct{}{}
		wait.Go(func() {
			defer func() { <-free }()
			runs[i] = newBaseline(ctx, &suites[i], read)
		})
	}
	wait.Wait()
	for _, r := range runs {
		for _, file := range r.policies {
			f.suites[file] = append(f.suites[file], r)
		}
	}
	var out []func() *Report
	for _, file := range slices.Sorted(maps.Keys(f.suites)) {
		out = append(out, f.file(ctx, file)...)
	}
	return out
}

// baselineRun is a suite as it runs with the policies as they are.
type baselineRun struct {
	*Suite
	policies []string
	passes   map[string]bool
	excluded map[string]bool
	marks    map[string]*mark
	// mistake is why it cannot tell mutants.
	mistake string
}

func newBaseline(ctx gocontext.Context, s *Suite, read Reader) *baselineRun {
	out := &baselineRun{Suite: s, passes: map[string]bool{}, excluded: map[string]bool{}}
	report, err := s.Run(ctx, read)
	if err != nil {
		out.mistake = err.Error()
		return out
	}
	slices.Sort(report.Policies)
	out.policies = slices.Compact(report.Policies)
	for key, c := range keyed(report) {
		switch c.Outcome {
		case policytest.Passed:
			out.passes[key] = true
			out.excluded[key] = c.Got == kyvernotest.Excluded
		case policytest.Failed, policytest.Broken:
			if out.mistake == "" {
				out.mistake = fmt.Sprintf("%s:%d: the test does not hold, so that it cannot tell mutants: %s: %s", s.File, c.Position.Line, c.Name, c.Message)
			}
		case policytest.Skipped:
		}
	}
	text, err := read(s.File)
	if err == nil {
		out.marks, err = marks(text)
	}
	if err != nil {
		out.mistake = fmt.Sprintf("%s:%s", s.File, err)
	}
	return out
}

// keyed goes through the cases of a report, with what tells each from the
// others.
func keyed(r *policytest.Report) func(func(string, *policytest.Case) bool) {
	return func(yield func(string, *policytest.Case) bool) {
		seen := map[string]int{}
		for i := range r.Cases {
			c := &r.Cases[i]
			key := fmt.Sprintf("%d %s %s", c.Position.Line, c.Suite, c.Resource)
			seen[key]++
			if !yield(fmt.Sprint(key, " ", seen[key]), c) {
				return
			}
		}
	}
}

// foreign tries the mutants of policies.
type foreign struct {
	read   Reader
	suites map[string][]*baselineRun
}

// file returns what tries the mutants of each policy of a file.
func (f *foreign) file(ctx gocontext.Context, file string) []func() *Report {
	data, err := f.read(file)
	if err != nil {
		return nil // the suite says so
	}
	var texts []object.Text
	for text := range object.Split(data) {
		texts = append(texts, text)
	}
	var out []func() *Report
	for i, text := range texts {
		root, err := object.ParseYAML(text)
		if err != nil || root == nil || root.Kind != object.Map {
			continue
		}
		p := &mutable{file: file, text: text, root: root, name: root.At("metadata", "name").Str()}
		if !p.make(root.Get("kind").Str(), object.Ref{APIVersion: root.Get("apiVersion").Str()}.Group()) {
			continue
		}
		out = append(out, func() *Report { return f.try(ctx, p, texts, i) })
	}
	return out
}

// try runs the suites of a policy against each of its mutants.
func (f *foreign) try(ctx gocontext.Context, p *mutable, texts []object.Text, at int) *Report {
	r := &Report{Control: p.name + " (" + p.file + ")"}
	var suites []*baselineRun
	marked := map[string]*mark{}
	for _, s := range f.suites[p.file] {
		if s.mistake != "" {
			r.Mistakes = append(r.Mistakes, s.mistake)
			continue
		}
		suites = append(suites, s)
		maps.Copy(marked, s.marks)
	}
	if len(suites) == 0 {
		return r
	}
	all := p.out
	if n := len(all); n > maxForeign {
		kept := make([]*yamlMutant, 0, maxForeign)
		for i := range maxForeign {
			kept = append(kept, all[i*n/maxForeign])
		}
		r.Mistakes = append(r.Mistakes, fmt.Sprintf("%s: %d further mutants were not tried: split the policy", p.file, n-maxForeign))
		all = kept
	}
	outcomes := make([]Outcome, len(all))
	var wait sync.WaitGroup
	free := make(chan struct{}, workers())
	for i, m := range all {
		free <- struct{}{}
		wait.Go(func() {
			defer func() { <-free }()
			outcomes[i] = f.outcome(ctx, p, edited(texts, at, m.root), suites)
		})
	}
	wait.Wait()
	for i, m := range all {
		m.Outcome = outcomes[i]
		if mark := marked[m.ID]; mark != nil {
			mark.used = true
			switch m.Outcome {
			case Survived:
				m.Outcome, m.Reason = Equivalent, mark.reason
			case Killed:
				r.Mistakes = append(r.Mistakes, fmt.Sprintf("%s: %s is marked as equivalent, but the test tells it from the policy", p.file, m.ID))
			case Equivalent, Invalid:
			}
		}
		r.Mutants = append(r.Mutants, &m.Mutant)
	}
	return r
}

// edited returns the text of a file of which one document is another.
func edited(texts []object.Text, at int, root *object.Node) []byte {
	var out bytes.Buffer
	for i, text := range texts {
		if i > 0 {
			out.WriteString("\n---\n")
		}
		if i == at {
			out.Write(root.JSON())
		} else {
			out.Write(text.Bytes)
		}
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// outcome runs suites with another text of a policy's file.
func (f *foreign) outcome(ctx gocontext.Context, p *mutable, text []byte, suites []*baselineRun) Outcome {
	read := func(name string) ([]byte, error) {
		if name == p.file {
			return text, nil
		}
		return f.read(name)
	}
	out := Survived
	for _, s := range suites {
		report, err := s.Run(ctx, read)
		if err != nil {
			out = Invalid
			continue
		}
		for key, c := range keyed(report) {
			switch {
			case !s.passes[key]:
				if c.Outcome == policytest.Failed {
					return Killed // there was no such case
				}
			case c.Outcome == policytest.Failed, c.Got == kyvernotest.Excluded && !s.excluded[key]:
				return Killed
			case c.Outcome == policytest.Broken:
				out = Invalid
			}
		}
	}
	return out
}

// yamlMutant is a policy that was changed in one place.
type yamlMutant struct {
	Mutant
	root *object.Node
}

// mutable makes the mutants of a document.
type mutable struct {
	file, name string
	text       object.Text
	root       *object.Node
	out        []*yamlMutant
	seen       map[string]bool
}

// make makes the mutants of a document of a kind; false if it is no policy.
func (p *mutable) make(kind, group string) bool {
	switch {
	case group == "kyverno.io" && (kind == "ClusterPolicy" || kind == "Policy"):
		p.kyverno()
	case group == "policies.kyverno.io" && strings.HasSuffix(kind, "Policy"),
		group == "admissionregistration.k8s.io" && strings.HasSuffix(kind, "AdmissionPolicy"):
		p.celPolicy(fieldPath("spec"))
	case group == "templates.gatekeeper.sh" && kind == "ConstraintTemplate":
		p.template()
	default:
		return false
	}
	return true
}

func fieldPath(fields ...string) object.Path { return object.Path(nil).Fields(fields...) }

func itemOf(path object.Path, i int) object.Path {
	return path.Append(object.Step{Item: true, Index: i})
}

// at returns the value at a path; nil if there is none.
func (p *mutable) at(path object.Path, fields ...string) *object.Node {
	return p.root.Lookup(path.Fields(fields...))
}

// add adds a mutant that has another value at a path, or none where it is nil.
func (p *mutable) add(op string, path object.Path, offset int, before, after string, value *object.Node) *yamlMutant {
	return p.addRoot(op, path, offset, before, after, replace(p.root, path, value))
}

func (p *mutable) addRoot(op string, path object.Path, offset int, before, after string, root *object.Node) *yamlMutant {
	field := strings.TrimPrefix(path.String(), "spec.")
	to := string(root.JSON())
	key := id(op, p.name+"\x00"+field, to)
	if p.seen == nil {
		p.seen = map[string]bool{string(p.root.JSON()): true}
	}
	if p.seen[to] {
		return nil
	}
	p.seen[to] = true
	spot := p.root.SpotIn(p.text, path, offset)
	if offset == 0 {
		spot, _ = p.root.SpotOf(path)
	}
	m := &yamlMutant{Mutant{
		ID: key, Operator: op, Field: field, Position: object.Position{File: p.file, Line: spot.Line, Column: spot.Col}, Before: before, After: after,
	}, root}
	p.out = append(p.out, m)
	return m
}

// drop adds a mutant without a value.
func (p *mutable) drop(op string, path object.Path) {
	if n := p.at(path); n != nil {
		p.add(op, path, 0, short(n), "(dropped)", nil)
	}
}

// short is a value on a line.
func short(n *object.Node) string {
	const most = 160
	text := []rune(flow(n))
	if len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(text)
}

// expression adds the mutants of an expression in CEL.
func (p *mutable) expression(path object.Path, use context) {
	n := p.at(path)
	if n == nil || n.Kind != object.String {
		return
	}
	all, err := edits(n.Text, use)
	if err != nil {
		return // the policy is refused
	}
	for _, e := range all {
		p.add(e.op, path, e.offset, e.before, e.after, object.NewString(e.source))
	}
}

// items returns how many items a list at a path has.
func (p *mutable) items(path object.Path) int {
	if n := p.at(path); n != nil && n.Kind == object.List {
		return len(n.Items)
	}
	return 0
}
