// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/all"
)

// PolicySource is a place outside of the cluster's API that policies of other
// languages are read from: a folder, a mounted ConfigMap, a bundle.
type PolicySource struct {
	// Name is what people know it by.
	Name string
	// Read returns its files. It is called again every so often, and what has
	// changed by then comes into force.
	Read  func(context.Context) ([]PolicyFile, error)
	Every time.Duration
}

// PolicyFile is a file that holds policies, or what they refer to.
type PolicyFile struct {
	// Name is what people know it by; it ends in .rego for Rego.
	Name string
	Data []byte
}

// installedFrom is where policies come from that are installed in the cluster:
// those of files have the name of their source.
const installedFrom = "the cluster"

// refusal is a policy that is left out of a set, and why.
type refusal struct {
	from string // files or cluster: a label
	at   string // the document, or the file and line
	why  string
}

// The values of the label from.
const (
	fromFiles   = "files"
	fromCluster = "cluster"
)

// String returns the refusal as it is told, in one line.
func (r refusal) String() string {
	return r.at + ": " + strings.Join(strings.Fields(r.why), " ")
}

// loaded are the rules of policies in other languages.
type loaded struct {
	hash  string
	rules []policy.Rule // each name once
	// audited are rules that something else in the cluster enforces.
	audited map[string]bool
	refused []refusal // sorted
}

// maxPolicyRules is how many rules of policies there may be: in some clusters
// whoever owns a namespace can make policies.
const maxPolicyRules = 5000

// loadPolicies makes rules of those documents that hold policies. What is not
// valid is left out, and hinders nothing else. Files come first: of a policy
// that is installed in the cluster too, it is theirs that is run.
func (c *compiler) loadPolicies(documents []document) *loaded {
	sum := hash(documents)
	if c.loaded != nil && c.loaded.hash == sum {
		return c.loaded
	}
	out := &loaded{hash: sum, audited: map[string]bool{}}
	names := map[string]string{}
	files, cluster := out.parse(documents)
	for _, rule := range out.run(fromFiles, files) {
		out.take(names, fromFiles, rule)
	}
	for _, rule := range out.run(fromCluster, cluster) {
		if names[rule.Info().Name] != fromFiles {
			out.take(names, fromCluster, rule)
		}
	}
	slices.SortFunc(out.refused, func(a, b refusal) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.at, b.at), cmp.Compare(a.why, b.why))
	})
	c.loaded = out
	return out
}

// take adds a rule, unless there is one of its name, or there are too many.
func (l *loaded) take(names map[string]string, from string, rule policy.Rule) {
	info := rule.Info()
	switch {
	case names[info.Name] != "":
		l.refuse(from, info.Position, "another rule is called "+info.Name+", too: names are the only identifiers, rename the policy or its rule")
		return
	case len(l.rules) >= maxPolicyRules:
		l.refuse(from, info.Position, fmt.Sprintf("rule %s is one too many: %d rules of policies are run, and no more", info.Name, maxPolicyRules))
		return
	}
	names[info.Name] = from
	l.rules = append(l.rules, rule)
	if from == fromCluster {
		l.audited[info.Name] = true
	}
}

// refuse notes that something is left out.
func (l *loaded) refuse(from string, at object.Position, why string) {
	where := at.File
	if from == fromFiles && at.Line > 0 {
		where = fmt.Sprintf("%s:%d", at.File, at.Line)
	}
	l.refused = append(l.refused, refusal{from, where, why})
}

// policyDocuments are documents, and sources of Rego by their files.
type policyDocuments struct {
	objects []*object.Object
	modules map[string][]byte
	data    policy.Data // what Rego finds below data
}

// parse reads the documents, those of files apart from those of the cluster.
func (l *loaded) parse(documents []document) (files, cluster policyDocuments) {
	files.modules = map[string][]byte{}
	var data []dataFile
	for i := range documents {
		d := &documents[i]
		if d.From == installedFrom {
			cluster.objects = append(cluster.objects, l.installed(d)...)
			continue
		}
		var text string
		if err := json.Unmarshal(d.Spec, &text); err != nil {
			l.refused = append(l.refused, refusal{fromFiles, d.Name, err.Error()})
			continue
		}
		if strings.EqualFold(path.Ext(d.Name), ".rego") {
			files.modules[d.Name] = []byte(text)
			continue
		}
		files.objects = append(files.objects, l.file(d.Name, []byte(text))...)
		if policy.IsData(d.Name) {
			data = append(data, dataFile{d.From, d.Name, text})
		}
	}
	if len(files.modules) > 0 {
		l.addData(&files.data, data)
	}
	cluster.objects = inForce(cluster.objects)
	return files, cluster
}

// dataFile is a file of data for Rego, of a source.
type dataFile struct{ from, name, text string }

// addData adds files of data.
func (l *loaded) addData(to *policy.Data, files []dataFile) {
	for _, f := range files {
		if slices.ContainsFunc(l.refused, func(r refusal) bool { return strings.HasPrefix(r.at, f.name+":") }) {
			continue // it is none that can be read
		}
		if err := to.Add(f.from, f.name, []byte(f.text)); err != nil {
			l.refuse(fromFiles, object.Position{File: f.name}, strings.TrimPrefix(err.Error(), f.name+": "))
		}
	}
}

// installed reads a document of the cluster.
func (l *loaded) installed(d *document) []*object.Object {
	roots, err := object.ParseJSON(d.Spec)
	if err != nil || len(roots) != 1 {
		l.refused = append(l.refused, refusal{fromCluster, d.key.String(), fmt.Sprintf("cannot be read: %v", err)})
		return nil
	}
	return []*object.Object{object.New(roots[0], &object.Origin{Source: d.key.String()})}
}

// file reads the documents of a file. Documents of Sconce's own format are those
// of the cluster, and no others.
func (l *loaded) file(name string, data []byte) []*object.Object {
	var out []*object.Object
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		switch {
		case err != nil:
			l.refuse(fromFiles, object.Position{File: name, Line: text.Line}, err.Error())
			continue
		case root == nil:
			continue
		case root.Get("apiVersion").Str() == v1alpha1.APIVersion:
			l.refuse(fromFiles, object.Position{File: name, Line: int(root.Line)}, root.Get("kind").Str()+"s of Sconce are read from the cluster, and nowhere else: kubectl apply it")
			continue
		}
		objects, err := object.FromNode(root, &object.Origin{Source: name, Text: text.Bytes, FirstLine: text.Line})
		if err != nil {
			continue // no object, and so no policy
		}
		out = append(out, objects...)
	}
	return out
}

// run makes rules of documents. A fault costs all of them, and nothing else.
func (l *loaded) run(from string, documents policyDocuments) (rules []policy.Rule) {
	if len(documents.objects)+len(documents.modules) == 0 {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			rules = nil
			l.refused = append(l.refused, refusal{from, "all policies", fmt.Sprintf("a fault in Sconce kept them from being read; please report it: %v", r)})
		}
	}()
	set := all.Reader{}.Load(documents.objects, documents.modules, policy.Options{Data: documents.data.Values()})
	for _, p := range set.Problems {
		l.refuse(from, p.Position, p.Message)
	}
	return set.Rules
}

var (
	vapKind     = object.GroupKind{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}
	bindingKind = object.GroupKind{Group: vapKind.Group, Kind: vapKind.Kind + "Binding"}
)

// inForce returns of the documents of a cluster those that are in force there. A
// ValidatingAdmissionPolicy without a binding is not; and one that was made of
// another policy, or of a control, is judged as what it was made of.
func inForce(objects []*object.Object) []*object.Object {
	bound := map[string]bool{}
	made := map[string]bool{}
	for _, o := range objects {
		switch o.GroupKind() {
		case bindingKind:
			bound[o.Root.At("spec", "policyName").Str()] = true
		case vapKind:
			made[o.Name] = isMade(o)
		}
	}
	return slices.DeleteFunc(objects, func(o *object.Object) bool {
		switch o.GroupKind() {
		case bindingKind:
			return made[o.Root.At("spec", "policyName").Str()]
		case vapKind:
			return made[o.Name] || !bound[o.Name]
		}
		return false
	})
}

// isMade says whether a policy was made of another one, or of a control.
func isMade(o *object.Object) bool {
	if o.Root.At("metadata", "labels", managedBy).Str() == Name {
		return true
	}
	owners := o.Root.At("metadata", "ownerReferences")
	return owners != nil && slices.ContainsFunc(owners.Items, func(owner *object.Node) bool {
		ref := object.Ref{APIVersion: owner.Get("apiVersion").Str(), Kind: owner.Get("kind").Str()}
		return all.Reader{}.Handles(ref.GroupKind())
	})
}

// restrain leaves rules to the audit that something else in the cluster enforces.
func (l *loaded) restrain(b *baseline.Baseline) {
	for _, r := range b.Rules {
		if l.audited[r.Name] {
			r.Action, r.Next = v1alpha1.Audit, nil
		}
	}
}

// isPolicyRule says whether a rule is of a policy in another language.
func isPolicyRule(r *baseline.Rule) bool { return r.Policy != nil }

// withoutPolicies returns a baseline with nothing but its controls.
func withoutPolicies(b *baseline.Baseline) *baseline.Baseline {
	out := *b
	out.Rules = slices.DeleteFunc(slices.Clone(b.Rules), isPolicyRule)
	return &out
}

// leftOut are the policies that were refused.
func (s *set) leftOut() []refusal {
	if s == nil {
		return nil
	}
	return s.refused
}

// ofPolicies are the names of those rules of a set that are of policies.
func (s *set) ofPolicies() map[string]bool {
	out := map[string]bool{}
	if s == nil {
		return out
	}
	for _, r := range s.baseline.Rules {
		if isPolicyRule(r) {
			out[r.Name] = true
		}
	}
	return out
}

// gone are the names of rules of policies that another set has no more, sorted.
func (s *set) gone(next *set) []string {
	left, now := s.ofPolicies(), next.ofPolicies()
	maps.DeleteFunc(left, func(name string, _ bool) bool { return now[name] })
	return slices.Sorted(maps.Keys(left))
}

// summed joins what is to be told, as far as that is short.
func summed(all []string) string {
	const shown = 5
	if more := len(all) - shown; more > 0 {
		all = append(slices.Clone(all[:shown]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, "; ")
}
