// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// mutationSpec is the spec of a mutator of any kind.
type mutationSpec struct {
	ApplyTo    []mutated `json:"applyTo"`
	Match      match     `json:"match"`
	Location   string    `json:"location"`
	Parameters struct {
		PathTests []struct {
			SubPath   string `json:"subPath"`
			Condition string `json:"condition"`
		} `json:"pathTests"`
		Assign *struct {
			Value        json.RawMessage `json:"value"`
			FromMetadata *struct {
				Field string `json:"field"`
			} `json:"fromMetadata"`
			ExternalData *struct{} `json:"externalData"`
		} `json:"assign"`
		Operation string `json:"operation"`
		Values    *struct {
			FromList []any `json:"fromList"`
		} `json:"values"`
		AssignDomain string `json:"assignDomain"`
		AssignPath   string `json:"assignPath"`
		AssignTag    string `json:"assignTag"`
	} `json:"parameters"`
}

// mutated are kinds of objects, and what is done to them.
type mutated struct {
	applyTo
	Operations []string `json:"operations"`
}

// mutator is an Assign, AssignMetadata, ModifySet or AssignImage.
type mutator struct {
	info policy.Info
	spec mutationSpec
	at   location
	// exists says, by the steps of the location, whether what it leads to must
	// be there, or must not.
	exists map[int]bool
	// set gives the field of a map its value; item returns what takes the place
	// of an item of a list, and is nil where the mutator changes none.
	set    func(o *object.Object, in map[string]any, field string) error
	item   func() map[string]any
	shared *shared
}

// mutator adds a mutator to the set.
func (l *loader) mutator(o *object.Object) {
	m, err := parseMutator(o)
	if err != nil {
		l.problem(o, fault(o, []string{"spec"}, "%s %s: %w", o.Kind, o.Name, err))
		return
	}
	m.shared = l.shared
	l.set.Mutators = append(l.set.Mutators, m)
}

// sortMutators puts mutators into the order in which Gatekeeper runs them.
func sortMutators(all []policy.Mutator) {
	slices.SortStableFunc(all, func(a, b policy.Mutator) int {
		x, y := a.Info().Policy, b.Info().Policy
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Name, y.Name))
	})
}

func parseMutator(o *object.Object) (*mutator, error) {
	m := &mutator{exists: map[int]bool{}}
	if o.Root.HasUnknown() {
		return nil, fmt.Errorf("it has a value that is not known: %s", o.Root.FirstUnknown())
	}
	spec := o.Root.Get("spec")
	if spec == nil {
		return nil, errors.New("it has no spec")
	}
	if err := json.Unmarshal(spec.JSON(), &m.spec); err != nil {
		return nil, err
	}
	if err := m.spec.Match.prepare(); err != nil {
		return nil, err
	}
	var err error
	if m.at, err = parseLocation(m.spec.Location); err != nil {
		return nil, err
	}
	m.info = policy.Info{
		Name: policy.Name(policy.Gatekeeper, o.Kind, o.Name), Language: policy.Gatekeeper, Policy: o.Ref, Title: o.Kind + " " + o.Name,
		Severity: v1alpha1.Medium, Action: v1alpha1.Deny, FailurePolicy: v1alpha1.FailClosed, Position: o.Position(nil),
	}
	m.info.Needs.Namespaces = m.spec.Match.namespaceLabels != nil
	if err := m.tests(o.Kind); err != nil {
		return nil, err
	}
	switch o.Kind {
	case "Assign", "AssignMetadata":
		err = m.assign(o.Kind)
	case "ModifySet":
		err = m.modifySet()
	case "AssignImage":
		err = m.assignImage()
	default:
		err = errors.New("there is no such mutator; want Assign, AssignMetadata, ModifySet or AssignImage")
	}
	if err == nil {
		err = m.checkTarget(o.Kind)
	}
	return m, err
}

// checkTarget says what a mutator of a kind must not change, and that it must
// say what it applies to.
func (m *mutator) checkTarget(kind string) error {
	last := m.at[len(m.at)-1]
	metadata := m.at[0] == locationStep{field: "metadata"}
	if kind == "AssignMetadata" {
		if len(m.at) != 3 || !metadata || m.at[2].list() || m.at[1].field != "labels" && m.at[1].field != "annotations" {
			return fmt.Errorf("the location %q is no label and no annotation", m.spec.Location)
		}
		return nil
	}
	switch {
	case metadata:
		return errors.New("it changes metadata; only AssignMetadata does")
	case last.list() && m.item == nil:
		return errors.New("the location ends in an item of a list; want a field")
	case len(m.at) > 1 && m.at[len(m.at)-2].list() && last.field == m.at[len(m.at)-2].key:
		return errors.New("it changes the field that tells items of a list apart")
	case len(m.spec.ApplyTo) == 0:
		return errors.New("spec.applyTo is not set")
	}
	for _, a := range m.spec.ApplyTo {
		if len(a.Groups) == 0 || len(a.Kinds) == 0 || len(a.Versions) == 0 {
			return errors.New("spec.applyTo must have groups, versions and kinds")
		}
		for _, operation := range a.Operations {
			if operation != "CREATE" && operation != "UPDATE" && operation != "*" {
				return fmt.Errorf("spec.applyTo has the operation %q; want CREATE, UPDATE or *", operation)
			}
		}
	}
	return nil
}

// tests reads the conditions on what is there. What AssignMetadata sets must not
// be there.
func (m *mutator) tests(kind string) error {
	if kind == "AssignMetadata" {
		m.exists[len(m.at)-1] = false
		return nil
	}
	for _, t := range m.spec.Parameters.PathTests {
		path, err := parseLocation(t.SubPath)
		if err != nil {
			return err
		}
		must := t.Condition == "MustExist"
		if !must && t.Condition != "MustNotExist" {
			return fmt.Errorf("a path test has the condition %q; want MustExist or MustNotExist", t.Condition)
		}
		if !path.prefixOf(m.at) {
			return fmt.Errorf("the path test %q does not lead to the location", t.SubPath)
		}
		if before, twice := m.exists[len(path)-1]; twice && before != must {
			return fmt.Errorf("%q must exist and must not exist", t.SubPath)
		}
		m.exists[len(path)-1] = must
	}
	return nil
}

// maxAssigned is how many values what a mutator sets may consist of.
const maxAssigned = 20000

// assign makes the mutator set a value.
func (m *mutator) assign(kind string) error {
	a := m.spec.Parameters.Assign
	given := 0
	var value any
	if a != nil {
		for _, is := range []bool{len(a.Value) > 0, a.FromMetadata != nil, a.ExternalData != nil} {
			if is {
				given++
			}
		}
		if len(a.Value) > 0 {
			n, err := object.ReadJSON(a.Value, maxAssigned)
			if err != nil {
				return err
			}
			value = n.Any()
		}
	}
	if given != 1 {
		return errors.New("parameters.assign must have one of value, fromMetadata and externalData")
	}
	if _, text := value.(string); kind == "AssignMetadata" && len(a.Value) > 0 && !text {
		return errors.New("parameters.assign.value must be a string")
	}
	if a.ExternalData != nil {
		m.info.Unsupported = "it assigns what a provider of external data says"
	}
	m.set = func(o *object.Object, in map[string]any, field string) error {
		switch {
		case a.FromMetadata == nil:
			in[field] = runtime.DeepCopyJSONValue(value)
		case a.FromMetadata.Field == "namespace":
			in[field] = o.Namespace
		default:
			in[field] = o.Root.At("metadata", "name").Str()
		}
		return nil
	}
	if f := a.FromMetadata; f != nil {
		if f.Field != "name" && f.Field != "namespace" {
			return fmt.Errorf("parameters.assign.fromMetadata.field is %q; want name or namespace", f.Field)
		}
		return nil
	}
	return m.assignItem(value)
}

// assignItem makes the mutator set an item of a list, where its location is one.
func (m *mutator) assignItem(value any) error {
	last := m.at[len(m.at)-1]
	if !last.list() {
		return nil
	}
	tree, ok := value.(map[string]any)
	if !ok || last.any || tree[last.key] != last.value {
		return fmt.Errorf("an item of the list must be a map whose %s is that of the location", last.key)
	}
	m.item = func() map[string]any { return runtime.DeepCopyJSON(tree) }
	return nil
}

// modifySet makes the mutator add values to a list, or take them away.
func (m *mutator) modifySet() error {
	var values []any
	if v := m.spec.Parameters.Values; v != nil {
		n := object.FromAny(v.FromList)
		values, _ = n.Any().([]any)
	}
	for i, v := range values {
		if f, ok := v.(float64); ok && f == float64(int64(f)) {
			values[i] = int64(f)
		}
	}
	prune := m.spec.Parameters.Operation == "prune"
	if !prune && m.spec.Parameters.Operation != "merge" && m.spec.Parameters.Operation != "" {
		return fmt.Errorf("parameters.operation is %q; want merge or prune", m.spec.Parameters.Operation)
	}
	m.set = func(_ *object.Object, in map[string]any, field string) error {
		given, there := in[field]
		list, ok := given.([]any)
		switch {
		case there && !ok:
			return fmt.Errorf("%s is no list", field)
		case prune && !there:
			return nil
		case prune:
			in[field] = slices.DeleteFunc(list, func(v any) bool { return contains(values, v) })
			return nil
		}
		for _, v := range values {
			if !contains(list, v) {
				list = append(list, runtime.DeepCopyJSONValue(v))
			}
		}
		in[field] = list
		return nil
	}
	return nil
}

func contains(list []any, v any) bool {
	return slices.ContainsFunc(list, func(other any) bool { return reflect.DeepEqual(other, v) })
}

// What the parts of an image must look like, so that setting them twice changes
// nothing further.
var (
	imageDomain = regexp.MustCompile(`^(\w[\w-]*\.[\w.-]*\w|localhost)(:\d+)?$`)
	imagePath   = regexp.MustCompile(`^[a-z0-9]+((([._/]|__|-*)[a-z0-9]+)+)?$`)
	imageTag    = regexp.MustCompile(`^(:\w[\w.-]{0,127}|@[A-Za-z][A-Za-z0-9]*([-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,})$`)
)

// assignImage makes the mutator set parts of an image.
func (m *mutator) assignImage() error {
	p := m.spec.Parameters
	switch {
	case p.AssignDomain == "" && p.AssignPath == "" && p.AssignTag == "":
		return errors.New("parameters must have one of assignDomain, assignPath and assignTag")
	case p.AssignDomain != "" && !imageDomain.MatchString(p.AssignDomain):
		return fmt.Errorf("parameters.assignDomain %q is no domain", p.AssignDomain)
	case p.AssignPath != "" && !imagePath.MatchString(p.AssignPath):
		return fmt.Errorf("parameters.assignPath %q is no path", p.AssignPath)
	case p.AssignTag != "" && !imageTag.MatchString(p.AssignTag):
		return fmt.Errorf("parameters.assignTag %q is no tag and no digest; want one that begins with : or @", p.AssignTag)
	}
	if domain, _ := splitDomain(p.AssignPath); domain != "" && p.AssignDomain == "" {
		return fmt.Errorf("parameters.assignPath %q begins with a domain", p.AssignPath)
	}
	m.set = func(_ *object.Object, in map[string]any, field string) error {
		given, there := in[field]
		image, ok := given.(string)
		if there && !ok {
			return fmt.Errorf("%s is no string", field)
		}
		domain, rest := splitDomain(image)
		path, tag := rest, ""
		if i := strings.IndexAny(rest, ":@"); i >= 0 {
			path, tag = rest[:i], rest[i:]
		}
		out := cmp.Or(p.AssignPath, path) + cmp.Or(p.AssignTag, tag)
		if domain = cmp.Or(p.AssignDomain, domain); domain != "" {
			out = domain + "/" + out
		}
		in[field] = out
		return nil
	}
	return nil
}

// splitDomain splits an image into its registry and the rest.
func splitDomain(image string) (domain, rest string) {
	first, after, found := strings.Cut(image, "/")
	if !found || !strings.ContainsAny(first, ".:") && first != "localhost" {
		return "", image
	}
	return first, after
}

// Info implements policy.Mutator.
func (m *mutator) Info() *policy.Info { return &m.info }

// Matches implements policy.Mutator.
func (m *mutator) Matches(gk object.GroupKind) bool {
	return m.spec.Match.kind(gk) && (len(m.spec.ApplyTo) == 0 || slices.ContainsFunc(m.spec.ApplyTo, func(a mutated) bool {
		return slices.Contains(a.Groups, gk.Group) && slices.Contains(a.Kinds, gk.Kind)
	}))
}

// applies says whether the mutator is about what a request does to a kind.
func (m *mutator) applies(r *Review) bool {
	if op := r.operation(); op != policy.Create && op != policy.Update {
		return false
	}
	for _, a := range m.spec.ApplyTo {
		if a.matches(r.Request.Object.Ref) && (len(a.Operations) == 0 || slices.Contains(a.Operations, "*") || slices.Contains(a.Operations, string(r.operation()))) {
			return true
		}
	}
	return len(m.spec.ApplyTo) == 0
}

// Mutate implements policy.Mutator.
func (m *mutator) Mutate(_ context.Context, req *policy.Request) (*object.Node, control.Verdict, bool) {
	o := req.Object
	if o == nil {
		return nil, control.Verdict{}, false
	}
	review := m.shared.review(req)
	if !m.applies(review) {
		return nil, control.Verdict{}, false
	}
	matches, err := m.spec.Match.matches(o, review)
	out := control.Verdict{Outcome: verdict.Pass}
	switch why := review.unknown(); {
	case err == nil && !matches && !o.Root.Get("metadata").HasUnknown():
		return nil, control.Verdict{}, false
	case m.info.Unsupported != "":
		unknown(&out, m.info.Unsupported)
		return nil, out, true
	case why != "":
		unknown(&out, why)
		return nil, out, true
	case err != nil:
		unknown(&out, err.Error())
		return nil, out, true
	}
	tree := runtime.DeepCopyJSON(req.Tree(o))
	changed, _, err := m.change(o, tree, 0)
	if err != nil {
		unknown(&out, fmt.Sprintf("%s %s cannot be applied: %v", m.info.Policy.Kind, m.info.Policy.Name, err))
		return nil, out, true
	}
	if !changed || reflect.DeepEqual(tree, req.Tree(o)) {
		return nil, out, true
	}
	return object.FromAny(tree), out, true
}

// may says whether the tests let what is, or is not, at a step of the location.
func (m *mutator) may(depth int, exists bool) bool {
	must, tested := m.exists[depth]
	return !tested || must == exists
}

// change changes what a step of the location leads to. It returns what takes the
// place of a value, and whether anything is to be changed.
func (m *mutator) change(o *object.Object, at any, depth int) (bool, any, error) {
	if m.at[depth].list() {
		list, ok := at.([]any)
		if !ok {
			return false, nil, fmt.Errorf("there is no list at step %d of %s", depth+1, m.spec.Location)
		}
		if depth == len(m.at)-1 {
			return m.changeItem(list, depth)
		}
		return m.changeItems(o, list, depth)
	}
	tree, ok := at.(map[string]any)
	if !ok {
		return false, nil, fmt.Errorf("there is no map at step %d of %s", depth+1, m.spec.Location)
	}
	field := m.at[depth].field
	next, there := tree[field]
	if !m.may(depth, there) {
		return false, nil, nil
	}
	if depth == len(m.at)-1 {
		return true, tree, m.set(o, tree, field)
	}
	if !there {
		next = m.missing(depth)
	}
	changed, next, err := m.change(o, next, depth+1)
	if err == nil && changed {
		tree[field] = next
	}
	return changed, tree, err
}

// missing returns what is made where the location leads on and nothing is.
func (m *mutator) missing(depth int) any {
	if m.at[depth+1].list() {
		return []any{}
	}
	out := map[string]any{}
	if step := m.at[depth]; step.list() {
		out[step.key] = step.value
	}
	return out
}

// changeItems changes the items of a list that a step means; where there is none
// it adds one.
func (m *mutator) changeItems(o *object.Object, list []any, depth int) (bool, any, error) {
	step := m.at[depth]
	changed, found := false, false
	list = slices.Clone(list)
	for _, item := range list {
		tree, _ := item.(map[string]any)
		if value, there := tree[step.key]; !step.any && (!there || value != step.value) {
			continue
		}
		if !m.may(depth, true) {
			return false, nil, nil
		}
		found = true
		did, _, err := m.change(o, item, depth+1)
		if err != nil {
			return false, nil, err
		}
		changed = changed || did
	}
	if found || step.any {
		return changed, list, nil
	}
	if !m.may(depth, false) {
		return false, nil, nil
	}
	item := m.missing(depth)
	did, item, err := m.change(o, item, depth+1)
	if err != nil || !did {
		return false, nil, err
	}
	return true, append(list, item), nil
}

// changeItem sets the item of a list that the location ends in.
func (m *mutator) changeItem(list []any, depth int) (bool, any, error) {
	step := m.at[depth]
	value := m.item()
	for i, item := range list {
		tree, ok := item.(map[string]any)
		if !ok {
			return false, nil, fmt.Errorf("an item of the list at %s is no map", m.spec.Location)
		}
		if given, there := tree[step.key]; there && given == step.value {
			if !m.may(depth, true) {
				return false, nil, nil
			}
			list = slices.Clone(list)
			list[i] = value
			return true, list, nil
		}
	}
	if !m.may(depth, false) {
		return false, nil, nil
	}
	return true, append(slices.Clone(list), value), nil
}
