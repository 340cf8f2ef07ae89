// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/engine"
)

// key names a document: there is one of a kind and name.
type key struct {
	Kind, Name string
}

// String returns the key as it is told: Exception legacy-shop.
func (k key) String() string { return k.Kind + " " + k.Name }

// document is a document of the format as it stands in the cluster, or one that
// holds policies of other languages.
type document struct {
	key
	// Spec is what it says, as JSON with sorted keys: of a policy that is
	// installed in the cluster all of it, of a file its text.
	Spec json.RawMessage
	// From is where policies come from; empty for a document of the format.
	From string `json:",omitempty"`
}

// compare orders documents by kind and name.
func (d document) compare(e document) int {
	return cmp.Or(cmp.Compare(d.Kind, e.Kind), cmp.Compare(d.Name, e.Name), cmp.Compare(d.From, e.From))
}

// isPolicy says whether a document holds policies of other languages.
func isPolicy(d document) bool { return d.From != "" }

// bytes returns the document as a file would hold it.
func (d *document) bytes() ([]byte, error) {
	return json.Marshal(map[string]any{
		"apiVersion": v1alpha1.APIVersion, "kind": d.Kind,
		"metadata": map[string]string{"name": d.Name}, "spec": d.Spec,
	})
}

// set is what is in force: the documents of the cluster and the catalogue as
// they are run. It is immutable.
type set struct {
	hash      string
	baseline  *baseline.Baseline
	documents []document // of the cluster, sorted
	// admission judges requests, audit what is in the cluster: of that, all is
	// seen, so that what is not there does not exist.
	admission admission.Engines
	audit     *engine.Engine
	expired   []string // exceptions that excuse nothing any more
	chain     []string // the enforced Baseline and those that it extends
	day       time.Time
	topics    map[string]string // by control
	// refused are policies of other languages that were left out, absent which
	// documents name rules of such policies that are not there.
	refused []refusal
	absent  mistakes
}

// mistakes are why documents are not valid, by document; those of the whole set
// stand under the zero key.
type mistakes map[key]string

// Error implements error: one line, the documents in the order of their names.
func (m mistakes) Error() string {
	var out []string
	for k, why := range m {
		if k != (key{}) {
			why = k.String() + ": " + why
		}
		out = append(out, why)
	}
	slices.Sort(out)
	const shown = 5
	if len(out) > shown {
		out = append(out[:shown], fmt.Sprintf("and %d more", len(out)-shown))
	}
	return strings.Join(out, "; ")
}

// compiler makes sets out of documents.
type compiler struct {
	// baseline is the name of the Baseline that is enforced.
	baseline string
	// version is that of the cluster, for a baseline that names none.
	version control.Version
	// policies says that there can be policies of other languages; loaded are the
	// last that were read: they take longer than all else.
	policies bool
	loaded   *loaded
}

// compile makes a set as it holds on a day. It returns what is wrong with each
// document, and no set if something that the set needs is: baselines that the
// enforced one does not extend are reported, and hinder nothing.
func (c *compiler) compile(documents []document, day time.Time) (out *set, wrong mistakes) {
	defer func() {
		if r := recover(); r != nil {
			out, wrong = nil, mistakes{{}: fmt.Sprintf("a fault in Sconce kept the documents from being read; please report it: %v", r)}
		}
	}()
	documents = sorted(documents)
	library := baseline.NewLibrary()
	catalog.Read(library)
	wrong = mistakes{}
	for i := range documents {
		if !isPolicy(documents[i]) {
			wrong.read(library, &documents[i])
		}
	}
	rules := &loaded{}
	if c.policies {
		rules = c.loadPolicies(slices.DeleteFunc(slices.Clone(documents), func(d document) bool { return !isPolicy(d) }))
		library.UsePolicies(rules.rules)
	}
	wrong.add(library.Check(time.Time{}))
	if !c.hinders(library, wrong) {
		out = c.resolve(library, documents, rules, day, wrong)
	}
	return out, wrong
}

// read adds a document to the library.
func (m mistakes) read(library *baseline.Library, d *document) {
	data, err := d.bytes()
	if err == nil {
		err = library.Read(d.key.String(), data)
	}
	m.add(err)
}

// add takes the mistakes of an error to the documents that they are in. Lines
// are left out: in a cluster a document has none.
func (m mistakes) add(err error) {
	if err == nil {
		return
	}
	all, ok := errors.AsType[baseline.Errors](err)
	if !ok {
		one, ok := errors.AsType[*baseline.Error](err)
		if !ok {
			m.note(key{}, err.Error())
			return
		}
		all = baseline.Errors{one}
	}
	for _, e := range all {
		kind, name, _ := strings.Cut(e.File, " ")
		m.note(key{kind, name}, e.Msg)
	}
}

// note adds a mistake, in one line.
func (m mistakes) note(in key, why string) {
	why = strings.Join(strings.Fields(why), " ")
	if before := m[in]; before != "" && !strings.Contains(before, why) {
		why = before + "; " + why
	}
	m[in] = why
}

// hinders says whether one of the mistakes is in what the set needs.
func (c *compiler) hinders(library *baseline.Library, wrong mistakes) bool {
	needed := chain(library, c.baseline)
	for k := range wrong {
		if k.Kind != "Baseline" || slices.Contains(needed, k.Name) || k.Name == c.baseline {
			return true
		}
	}
	return false
}

// resolve makes the set of a library without mistakes.
func (c *compiler) resolve(library *baseline.Library, documents []document, rules *loaded, day time.Time, wrong mistakes) *set {
	enforced := key{"Baseline", c.baseline}
	if !slices.ContainsFunc(documents, func(d document) bool { return d.key == enforced }) {
		wrong.note(key{}, fmt.Sprintf("there is no Baseline %q in the cluster: apply one, or name another with --baseline", c.baseline))
		return nil
	}
	b, err := library.Resolve(c.baseline, baseline.Options{Today: day})
	if err == nil && !b.Named && !c.version.IsZero() {
		b, err = library.Resolve(c.baseline, baseline.Options{KubernetesVersion: c.version, Today: day})
	}
	if err != nil {
		if _, ok := errors.AsType[*baseline.Error](err); ok {
			wrong.add(err)
		} else {
			wrong.note(enforced, err.Error())
		}
		return nil
	}
	rules.restrain(b)
	exceptions := library.Exceptions(day).Forgetful()
	whole := *b
	whole.Complete = true
	out := &set{
		baseline: b, documents: documents, day: day, hash: hash(documents), chain: chain(library, c.baseline), topics: map[string]string{},
		refused: rules.refused, absent: mistakes{},
		admission: admission.Engines{
			Fail:   engine.New(admission.Enforced(b, v1alpha1.FailClosed, v1alpha1.Warn), exceptions, day),
			Ignore: engine.New(admission.Enforced(b, v1alpha1.FailOpen, v1alpha1.Warn), exceptions, day),
			Mutate: engine.New(withoutPolicies(b), exceptions, day),
		},
		audit: engine.New(&whole, exceptions, day),
	}
	for _, r := range b.Rules {
		out.topics[r.Name] = r.Spec.Topic
	}
	if absent := library.AbsentPolicies(); len(absent) > 0 {
		out.absent.add(absent)
	}
	for _, n := range exceptions.Notices(func(string) bool { return true }) {
		out.expired = append(out.expired, n.Subject)
	}
	return out
}

// topic returns what groups a control among others.
func (s *set) topic(control string) string { return s.topics[control] }

// chain returns a baseline and those that it extends.
func chain(library *baseline.Library, name string) []string {
	var out []string
	var walk func(name string)
	walk = func(name string) {
		if b := library.Baseline(name); b != nil && !slices.Contains(out, name) {
			out = append(out, name)
			for _, parent := range b.Spec.Extends {
				walk(parent)
			}
		}
	}
	walk(name)
	return out
}

// hash returns what tells one set of documents from another.
func hash(documents []document) string {
	h := sha256.New()
	for i := range documents {
		d := &documents[i]
		_, _ = fmt.Fprintf(h, "%s\x00%s\x00%d\x00%s", d.Kind, d.Name, len(d.Spec), d.Spec) // a hash takes everything
		if isPolicy(*d) {
			_, _ = fmt.Fprintf(h, "\x00%s", d.From)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// maxPacked is how large the packed documents of a set may be: etcd takes
// requests of 1.5 MiB.
const maxPacked = 1 << 20

// pack returns the documents in a form in which they are kept.
func pack(documents []document) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if err := json.NewEncoder(z).Encode(documents); err != nil {
		return nil, fmt.Errorf("packing the set in force: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("packing the set in force: %w", err)
	}
	if out.Len() > maxPacked {
		return nil, fmt.Errorf("packing the set in force: its %d documents take %d KiB, and %d KiB is the most that is kept: write fewer exceptions, with patterns for names and namespaces", len(documents), out.Len()>>10, maxPacked>>10)
	}
	return out.Bytes(), nil
}

// maxUnpacked bounds what is unpacked of what somebody may have put there.
const maxUnpacked = 64 << 20

// unpack returns the documents that were packed.
func unpack(data []byte) ([]document, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("unpacking the last good set: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxUnpacked+1))
	if err != nil {
		return nil, fmt.Errorf("unpacking the last good set: %w", err)
	}
	if len(text) > maxUnpacked {
		return nil, fmt.Errorf("unpacking the last good set: it is larger than %d MiB", maxUnpacked>>20)
	}
	var out []document
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("unpacking the last good set: %w", err)
	}
	return out, nil
}
