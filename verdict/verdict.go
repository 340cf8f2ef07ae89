// SPDX-License-Identifier: Apache-2.0

// Package verdict is what Sconce says: an outcome for each object and control,
// findings with their place, evidence and fix, problems that kept something
// from being judged, and the summary that counts them all.
//
// The types are also the JSON that `sconce scan -o json` prints: a stream of
// Messages. Every other format is made from that stream and nothing else.
package verdict

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
)

// StreamVersion is the version of the stream of Messages. It grows when a field
// changes its meaning or goes; new fields leave it as it is.
const StreamVersion = "v1alpha1"

// Outcome is what a control says of an object or of one of its elements.
type Outcome string

// The outcomes. Unknown is never a pass: something that the judgement needs
// could not be read or decided, and the finding says what.
const (
	Pass    Outcome = "pass"
	Fail    Outcome = "fail"
	Unknown Outcome = "unknown"
)

// Message is one line of the stream: exactly one of its fields is set. The
// first is Config, the last Summary; a Control comes before the first Finding
// that names it.
type Message struct {
	Config  *Config  `json:"config,omitempty"`
	Control *Control `json:"control,omitempty"`
	Finding *Finding `json:"finding,omitempty"`
	Problem *Problem `json:"problem,omitempty"`
	Notice  *Notice  `json:"notice,omitempty"`
	Summary *Summary `json:"summary,omitempty"`
}

// Config says what was asked.
type Config struct {
	// Stream is StreamVersion.
	Stream string `json:"stream"`
	// Program and Version are who wrote the stream.
	Program string `json:"program"`
	Version string `json:"version"`
	// Targets are the sources as the user named them.
	Targets []string `json:"targets"`
	// Baseline is the name of the baseline; KubernetesVersion the version it
	// judged for.
	Baseline          string `json:"baseline"`
	KubernetesVersion string `json:"kubernetesVersion"`
	// Policies are where policies in other languages were read from, as the user
	// named it.
	Policies []string `json:"policies,omitempty"`
	// Frameworks are the titles of the standards that controls refer to, by
	// their names.
	Frameworks map[string]string `json:"frameworks,omitempty"`
	// Cluster is what the cluster is called whose objects were read, if it was
	// one. Positions of its objects name no file and no line.
	Cluster string `json:"cluster,omitempty"`
	// Revision is the Git revision that was read, if one was asked for.
	Revision string `json:"revision,omitempty"`
	// Base is what it was compared with, if it was: only findings that are new
	// since then are told, and the summary counts all.
	Base string `json:"base,omitempty"`
	// Compliance names the frameworks that a report was asked for: only controls
	// that refer to them were run.
	Compliance []string `json:"compliance,omitempty"`
}

// Control is what a reader of findings needs to know of a control.
type Control struct {
	Name        string              `json:"name"`
	Title       string              `json:"title"`
	Description string              `json:"description"`
	Remediation string              `json:"remediation"`
	Severity    v1alpha1.Severity   `json:"severity"`
	Layer       v1alpha1.Layer      `json:"layer"`
	Phase       v1alpha1.Phase      `json:"phase"`
	Topic       string              `json:"topic"`
	References  v1alpha1.References `json:"references,omitempty"`
}

// Finding is one control that one object, or one element of it, does not meet
// (Fail), or of which that could not be decided (Unknown).
type Finding struct {
	Control  string            `json:"control"`
	Outcome  Outcome           `json:"outcome"`
	Severity v1alpha1.Severity `json:"severity"`
	Action   v1alpha1.Action   `json:"action"`
	Object   object.Ref        `json:"object"`
	// Element is what the control went through, by its list and name:
	// containers[app]; empty for the object as a whole.
	Element string `json:"element,omitempty"`
	// Path is the field, from the object's root:
	// spec.template.spec.containers[app].securityContext.privileged.
	Path string `json:"path"`
	// Missing says that the field is not there, and the position that of the
	// nearest one above it.
	Missing bool `json:"missing,omitempty"`
	// Message says what is there, in one line.
	Message string `json:"message"`
	// Evidence are the values that were read at the control's fields.
	Evidence []Evidence `json:"evidence,omitempty"`
	// Position is where a person edits it.
	Position object.Position `json:"position"`
	// Rendered says by what the object was rendered ("helm", "kustomize") and
	// from which chart or overlay; empty for a plain file.
	Rendered string `json:"rendered,omitempty"`
	Source   string `json:"source,omitempty"`
	// Fix is the edit that clears the finding, if one is known.
	Fix *Fix `json:"fix,omitempty"`
	// Excepted is set where an exception excuses the finding: it does not
	// count as failed.
	Excepted *Excepted `json:"excepted,omitempty"`
	// Fingerprint is the finding's identity: it survives reordering, renaming
	// of files, rendering again and injected sidecars.
	Fingerprint string `json:"fingerprint"`
}

// Evidence is a value that was read.
type Evidence struct {
	Path string `json:"path"`
	// Value is the value as JSON writes it, "absent", or what stands for it
	// where it is long or secret.
	Value string `json:"value"`
}

// Fix is an edit of a manifest.
type Fix struct {
	// Edits are the changes, with paths from the object's root.
	Edits []Edit `json:"edits"`
	// Note says what a person must check before the edit is safe.
	Note string `json:"note,omitempty"`
	// Proven says that the edit was made on a copy of the source and judged
	// again: this finding was gone and no new one had come.
	Proven bool `json:"proven"`
	// Diff is the edit as lines of the source, without context: each line
	// begins with "-" or "+".
	Diff []string `json:"diff,omitempty"`
	// Refused says why the edit cannot be made mechanically here.
	Refused string `json:"refused,omitempty"`
}

// EditOp is what an Edit does.
type EditOp string

// The edits: give a field a value, take a field or an item away, put a value
// into a list.
const (
	Set    EditOp = "set"
	Remove EditOp = "remove"
	Add    EditOp = "add"
)

// Edit is one change of one field.
type Edit struct {
	Op EditOp `json:"op"`
	// Path is the field, from the object's root, as it is shown; Steps are the
	// same path for a program.
	Path  string         `json:"path"`
	Steps object.Path    `json:"-"`
	Value v1alpha1.Value `json:"value,omitzero"`
}

// Excepted names the exception that excuses a finding.
type Excepted struct {
	Exception string `json:"exception"`
	Reason    string `json:"reason"`
	Owner     string `json:"owner"`
	Expires   string `json:"expires"`
}

// Stage is what was being done when a problem came up.
type Stage string

// The stages.
const (
	Discovering Stage = "discovering"
	Reading     Stage = "reading"
	Parsing     Stage = "parsing"
	Rendering   Stage = "rendering"
)

// Problem is something that was asked for and could not be judged. It counts as
// unknown, and a scan that has one could not do its whole job.
type Problem struct {
	Stage Stage `json:"stage"`
	// Position is the place, as exactly as it is known.
	Position object.Position `json:"position"`
	// Message says why, and what to do.
	Message string `json:"message"`
	// Of is the kind of what could not be read, or all kinds of a group; where it
	// is not set anything may be missing.
	Of object.GroupKind `json:"-"`
}

// NoticeKind is what a Notice is about.
type NoticeKind string

// The kinds of notices.
const (
	UnusedException    NoticeKind = "exception-unused"
	ExpiredException   NoticeKind = "exception-expired"
	WideException      NoticeKind = "exception-wider-than-needed"
	InvalidException   NoticeKind = "exception-invalid"
	ForbiddenException NoticeKind = "exception-forbidden"
	DuplicateObject    NoticeKind = "duplicate-object"
	UnsupportedPolicy  NoticeKind = "policy-unsupported"
	UnboundPolicy      NoticeKind = "policy-unbound"
	MutatingPolicy     NoticeKind = "policy-mutates"
	OtherPolicy        NoticeKind = "policy-judges-nothing"
	UnsupportedFormat  NoticeKind = "format-unsupported"
	RolloutStage       NoticeKind = "rollout-stage"
)

// Notice is something that a person should know and that is no verdict.
type Notice struct {
	Kind NoticeKind `json:"kind"`
	// Subject is the exception or object that it is about.
	Subject  string          `json:"subject"`
	Message  string          `json:"message"`
	Position object.Position `json:"position"`
}

// Counts are verdicts by outcome.
type Counts struct {
	Pass     int `json:"pass"`
	Fail     int `json:"fail"`
	Unknown  int `json:"unknown"`
	Excepted int `json:"excepted"`
}

// Add adds the other counts to these.
func (c *Counts) Add(o Counts) {
	c.Pass += o.Pass
	c.Fail += o.Fail
	c.Unknown += o.Unknown
	c.Excepted += o.Excepted
}

// Summary counts everything that was asked for: nothing is missing from it.
type Summary struct {
	// Verdicts count one for each object and control, elements folded
	// together: the worst of them decides.
	Verdicts Counts `json:"verdicts"`
	// BySeverity and ByCell count the same verdicts; a cell is layer/phase.
	BySeverity map[v1alpha1.Severity]Counts `json:"bySeverity"`
	ByCell     map[string]Counts            `json:"byCell"`
	// ByControl counts them for each control that judged anything.
	ByControl map[string]Counts `json:"byControl"`
	// Findings counts the findings that failed, by severity; a control may
	// have several in one object.
	Findings map[v1alpha1.Severity]int `json:"findings"`
	// Unknown counts the findings that could not be decided; an object and
	// control that also failed has the verdict fail.
	Unknown int `json:"unknown"`
	// Objects were judged by at least one control; Unmatched by none.
	Objects   int `json:"objects"`
	Unmatched int `json:"unmatched"`
	// OldRevisions are ReplicaSets that a Deployment keeps of its past. They run
	// nothing and were not judged.
	OldRevisions int `json:"oldRevisions,omitempty"`
	// Folded findings are told of the owner of the object alone, which has them
	// too: a Deployment's, not each of its Pods'. Verdicts count every object.
	Folded int `json:"folded,omitempty"`
	// Files were read; Other documents were no Kubernetes objects. Charts and
	// Overlays were rendered; Owned files belong to those and are judged by
	// what they render to.
	Files    int `json:"files"`
	Other    int `json:"otherDocuments"`
	Charts   int `json:"charts"`
	Overlays int `json:"overlays"`
	Owned    int `json:"ownedFiles"`
	// Problems could not be judged.
	Problems int `json:"problems"`
	Notices  int `json:"notices"`
	// Controls is how many controls the baseline turned on.
	Controls int `json:"controls"`
	// Compliance is a report for each framework that was asked for.
	Compliance []*Compliance `json:"compliance,omitempty"`
}

// Score returns the bounds between which the share of passed verdicts lies, in
// percent: what is unknown counts as failed in the first and as passed in the
// second. Problems widen nothing that was counted, so a summary with problems
// has bounds only for what could be read.
func (s *Summary) Score() (low, high float64) {
	v := s.Verdicts
	total := v.Pass + v.Fail + v.Unknown + v.Excepted
	if total == 0 {
		return 0, 100
	}
	return 100 * float64(v.Pass+v.Excepted) / float64(total), 100 * float64(v.Pass+v.Excepted+v.Unknown) / float64(total)
}

// Fingerprint returns the identity of a finding: of the control, the object and
// the element and path, in which items are addressed by name.
func Fingerprint(control string, ref object.Ref, element, path object.Path) string {
	h := sha256.New()
	for _, part := range []string{control, ref.Group(), ref.Kind, ref.Namespace, ref.Name, element.String(), path.String()} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// Severities are all severities, worst first.
var Severities = []v1alpha1.Severity{v1alpha1.Critical, v1alpha1.High, v1alpha1.Medium, v1alpha1.Low}

// Rank orders severities: 0 is the worst, and what is none comes last.
func Rank(s v1alpha1.Severity) int {
	if i := slices.Index(Severities, s); i >= 0 {
		return i
	}
	return len(Severities)
}
