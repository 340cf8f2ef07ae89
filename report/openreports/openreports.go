// SPDX-License-Identifier: Apache-2.0

// Package openreports says what holds in a namespace as an object that other
// programs read: a Report of openreports.io, or the older PolicyReport of
// wgpolicyk8s.io. There is one object for a namespace and one for what belongs to
// none, each bounded whatever is wrong there.
//
// It is a pure function of what is given: nothing in a report changes while what
// it says stays the same, so that an agent writes it only when it must (Hash). It
// writes nothing itself, and installs no CRDs.
package openreports

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Name is the name of every report, and the source that it gives.
const Name = "sconce"

// The annotations and the label of a report.
const (
	// HashAnnotation holds what Hash returns.
	HashAnnotation = v1alpha1.Group + "/content-hash"
	// LeftOutAnnotation holds how many results there was no room for.
	LeftOutAnnotation = v1alpha1.Group + "/results-left-out"
	managedByLabel    = "app.kubernetes.io/managed-by"
)

// MaxResults is how many results a report holds, and MaxSize how long it is as
// JSON, in bytes: etcd refuses objects of 1.5 MiB. Problems leave room for
// findings.
const (
	MaxResults  = 500
	MaxSize     = 1 << 20
	maxProblems = 100
)

// What else is bounded, in bytes: a name of an object is at most 253 long.
const (
	maxMessage  = 1024
	maxProperty = 512
)

// API is one of the APIs that reports are written in.
type API struct {
	schema.GroupVersion
	// kind and plural are those of the namespaced kind; the other has Cluster
	// in front.
	kind, plural string
	// source says that a report as a whole says who wrote it.
	source bool
}

// The APIs.
var (
	OpenReports   = API{schema.GroupVersion{Group: "openreports.io", Version: "v1alpha1"}, "Report", "reports", true}
	PolicyReports = API{schema.GroupVersion{Group: "wgpolicyk8s.io", Version: "v1alpha2"}, "PolicyReport", "policyreports", false}
)

// ParseAPI returns the API that a person names: openreports or policyreports.
func ParseAPI(name string) (API, error) {
	switch name {
	case "openreports":
		return OpenReports, nil
	case "policyreports":
		return PolicyReports, nil
	}
	return API{}, fmt.Errorf("unknown kind of reports %q; want openreports or policyreports", name)
}

// Kind returns the kind of report for a namespace; for "", that for what belongs
// to none.
func (a API) Kind(namespace string) schema.GroupVersionKind {
	if namespace == "" {
		return a.WithKind("Cluster" + a.kind)
	}
	return a.WithKind(a.kind)
}

// Resource returns how the API server calls that kind.
func (a API) Resource(namespace string) schema.GroupVersionResource {
	if namespace == "" {
		return a.WithResource("cluster" + a.plural)
	}
	return a.WithResource(a.plural)
}

// Input is what there is to say of a namespace.
type Input struct {
	// Baseline is the name of what everything was held against.
	Baseline string
	// Verdicts count one for each object and control.
	Verdicts verdict.Counts
	// Findings may be all of them, or the worst: LeftOut is how many more there
	// are.
	Findings []verdict.Finding
	LeftOut  int
	// Problems could not be judged.
	Problems []verdict.Problem
	// Topic returns what groups a control among others; nil for nothing.
	Topic func(control string) string
}

// Report is a report of either API.
type Report struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Source     string   `json:"source,omitempty"`
	Scope      *Subject `json:"scope,omitempty"`
	Summary    Summary  `json:"summary"`
	Results    []Result `json:"results,omitempty"`
}

// Metadata is what a report says of itself.
type Metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Summary counts verdicts, one for each object and control, and with the errors
// the problems. Nothing is missing from it.
type Summary struct {
	Pass  int `json:"pass"`
	Fail  int `json:"fail"`
	Warn  int `json:"warn"`
	Error int `json:"error"`
	Skip  int `json:"skip"`
}

// Outcome is what a result says. What is unknown is an error and never a pass;
// what an exception excuses is skipped.
type Outcome string

// The outcomes that Sconce uses. A failed finding is a failure whatever its
// action; what passes is only counted.
const (
	Fail  Outcome = "fail"
	Error Outcome = "error"
	Skip  Outcome = "skip"
)

// Result is one finding, or one problem. It has one subject: programs that show
// reports look at the first alone.
type Result struct {
	Source   string            `json:"source"`
	Policy   string            `json:"policy"`
	Rule     string            `json:"rule,omitempty"`
	Category string            `json:"category,omitempty"`
	Severity string            `json:"severity,omitempty"`
	Result   Outcome           `json:"result"`
	Scored   bool              `json:"scored"`
	Subjects []Subject         `json:"resources,omitempty"`
	Message  string            `json:"message,omitempty"`
	Details  map[string]string `json:"properties,omitempty"`
}

// Subject is the object that a result is about.
type Subject struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// Build returns the report on a namespace; for "", that on what belongs to none.
func Build(api API, namespace string, in Input) *Report {
	gvk := api.Kind(namespace)
	out := &Report{
		APIVersion: gvk.GroupVersion().String(),
		Kind:       gvk.Kind,
		Metadata:   Metadata{Name: Name, Namespace: namespace, Labels: map[string]string{managedByLabel: Name}},
		Summary: Summary{
			Pass:  in.Verdicts.Pass,
			Fail:  in.Verdicts.Fail,
			Error: in.Verdicts.Unknown + len(in.Problems),
			Skip:  in.Verdicts.Excepted,
		},
	}
	if api.source {
		out.Source = Name
	}
	if namespace != "" {
		out.Scope = &Subject{APIVersion: "v1", Kind: "Namespace", Name: namespace}
	}
	leftOut := in.LeftOut + max(0, len(in.Problems)-maxProblems)
	out.bound(results(in), leftOut)
	return out
}

// Hash returns what identifies what a report says. It is also an annotation of
// the report: where a report in the cluster has the same, there is nothing to
// write.
func (r *Report) Hash() string { return r.Metadata.Annotations[HashAnnotation] }

// Unstructured returns the report as client libraries take it.
func (r *Report) Unstructured() (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(r)
	if err != nil {
		return nil, fmt.Errorf("converting the report on namespace %q: %w", r.Metadata.Namespace, err)
	}
	return &unstructured.Unstructured{Object: content}, nil
}

// bound puts as many results into the report as there is room for, the worst
// first, and says how many are left out.
func (r *Report) bound(results []Result, leftOut int) {
	// Annotations, and what separates results.
	const margin = 4 << 10
	size := margin + length(r)
	n := 0
	for n < len(results) && n < MaxResults {
		if size += length(&results[n]) + 1; size > MaxSize {
			break
		}
		n++
	}
	r.Results = results[:n]
	r.Metadata.Annotations = map[string]string{}
	if leftOut += len(results) - n; leftOut > 0 {
		r.Metadata.Annotations[LeftOutAnnotation] = strconv.Itoa(leftOut)
	}
	sum := sha256.Sum256(encode(r))
	r.Metadata.Annotations[HashAnnotation] = hex.EncodeToString(sum[:16])
}

func length(v any) int { return len(encode(v)) }

// encode returns the JSON of a report or a result: of strings and numbers, so
// that it cannot fail.
func encode(v any) []byte {
	data, _ := json.Marshal(v)
	return data
}

// results returns a result for each problem and each finding: problems first,
// since they may hide anything, then what failed, what is unknown and what is
// excused, each by severity, control, object and place.
func results(in Input) []Result {
	out := make([]Result, 0, len(in.Problems)+len(in.Findings))
	for i := range min(len(in.Problems), maxProblems) {
		out = append(out, ofProblem(in.Baseline, &in.Problems[i]))
	}
	findings := make([]*verdict.Finding, len(in.Findings))
	for i := range in.Findings {
		findings[i] = &in.Findings[i]
	}
	slices.SortFunc(findings, compare)
	for _, f := range findings {
		r := ofFinding(in.Baseline, f)
		if in.Topic != nil {
			r.Category = in.Topic(f.Control)
		}
		out = append(out, r)
	}
	return out
}

// order is how outcomes are listed.
var order = []Outcome{Fail, Error, Skip}

func compare(a, b *verdict.Finding) int {
	return cmp.Or(
		cmp.Compare(slices.Index(order, outcome(a)), slices.Index(order, outcome(b))),
		cmp.Compare(verdict.Rank(a.Severity), verdict.Rank(b.Severity)),
		cmp.Compare(a.Control, b.Control),
		cmp.Compare(a.Object.String(), b.Object.String()),
		cmp.Compare(a.Path, b.Path),
		cmp.Compare(a.Fingerprint, b.Fingerprint),
	)
}

func outcome(f *verdict.Finding) Outcome {
	switch {
	case f.Excepted != nil:
		return Skip
	case f.Outcome == verdict.Unknown:
		return Error
	}
	return Fail
}

func ofFinding(baseline string, f *verdict.Finding) Result {
	out := Result{
		Source:   Name,
		Policy:   baseline,
		Rule:     f.Control,
		Severity: string(f.Severity),
		Result:   outcome(f),
		Scored:   true,
		Subjects: []Subject{subject(f.Object)},
		Message:  cut(f.Message, maxMessage),
		Details:  map[string]string{"path": cut(f.Path, maxProperty), "action": string(f.Action), "fingerprint": f.Fingerprint},
	}
	if x := f.Excepted; x != nil {
		out.Details["exception"] = cut(x.Exception, maxProperty)
		out.Details["reason"] = cut(x.Reason, maxProperty)
		out.Details["owner"] = cut(x.Owner, maxProperty)
		out.Details["expires"] = cut(x.Expires, maxProperty)
	}
	return out
}

func ofProblem(baseline string, p *verdict.Problem) Result {
	return Result{
		Source:  Name,
		Policy:  baseline,
		Rule:    "not-judged",
		Result:  Error,
		Scored:  true,
		Message: cut(p.Message, maxMessage),
		Details: map[string]string{"stage": string(p.Stage)},
	}
}

func subject(ref object.Ref) Subject {
	return Subject{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
}

// cut returns no more of a text than there is room for, as valid UTF-8.
func cut(s string, n int) string {
	if len(s) <= n {
		return strings.ToValidUTF8(s, "�")
	}
	return strings.ToValidUTF8(s[:n-len("…")], "") + "…"
}
