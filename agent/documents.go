// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sconce.dev/sconce/api/v1alpha1"
)

// The kinds of documents, and the resources that they are in the API.
var documentKinds = []documentKind{
	{"Baseline", "baselines", true},
	{"Control", "controls", true},
	{"Exception", "exceptions", true},
	{"Framework", "frameworks", false},
}

// documentKind is a kind of documents; status says whether it has one.
type documentKind struct {
	kind, resource string
	status         bool
}

// KeptName is the ConfigMap in the agent's namespace that holds the last good
// set, and keptField its field.
const (
	KeptName  = "sconce-last-good"
	keptField = "documents.json.gz"
)

// liveDocument is a document and what the API server knows of it beside.
type liveDocument struct {
	document
	generation int64
	status     v1alpha1.Status
}

// state is what came of the documents when they were last looked at.
type state struct {
	documents []liveDocument
	wrong     mistakes
	// accepted says that the set in force is made of these documents.
	accepted bool
	// unread are sources of policies that could not be read.
	unread []refusal
}

// documents follows the documents in the cluster and keeps the set in force.
type documents struct {
	cache     cache.Cache
	client    kubernetes.Interface
	compiler  *compiler
	policies  *sources
	namespace string
	log       *slog.Logger
	metrics   *metrics
	now       func() time.Time
	// leads says whether this replica leads: the others take over what the
	// leader keeps, where the documents are not valid.
	leads func() bool

	force   atomic.Pointer[set]
	looked  atomic.Pointer[state]
	events  signal
	mu      sync.Mutex
	follow  []signal // raised when the set or the state changed
	lastDay time.Time
	last    string // hash of the documents that were last compiled
}

// changes returns a signal that is raised whenever the set in force, or what
// is said of the documents, has changed.
func (d *documents) changes() signal {
	s := newSignal()
	d.mu.Lock()
	d.follow = append(d.follow, s)
	d.mu.Unlock()
	return s
}

func (d *documents) tell() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.follow {
		s.raise()
	}
}

// watch asks the cache for everything that Start reads.
func (d *documents) watch(ctx context.Context) error {
	handler := d.events.handler()
	for _, k := range documentKinds {
		if err := watchWith(ctx, d.cache, newDocument(k.kind), handler); err != nil {
			return fmt.Errorf("watching %s.%s: %w: are the CRDs of Sconce installed?", k.resource, v1alpha1.Group, err)
		}
	}
	if err := watchWith(ctx, d.cache, &corev1.ConfigMap{}, handler); err != nil {
		return fmt.Errorf("watching the ConfigMap %s/%s: %w", d.namespace, KeptName, err)
	}
	return nil
}

// watchWith adds a handler to the cache's informer for a kind.
func watchWith(ctx context.Context, c cache.Cache, object client.Object, handler toolscache.ResourceEventHandler) error {
	informer, err := c.GetInformer(ctx, object, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	_, err = informer.AddEventHandler(handler)
	return err
}

func newDocument(kind string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.FromAPIVersionAndKind(v1alpha1.APIVersion, kind))
	return u
}

// The documents are looked at when nothing has changed for quiet, and at the
// latest after patience: 5,000 exceptions come in one burst.
const (
	quiet    = 200 * time.Millisecond
	patience = 2 * time.Second
)

// NeedLeaderElection says that every replica follows the documents.
func (d *documents) NeedLeaderElection() bool { return false }

// Start follows the documents until the context ends.
func (d *documents) Start(ctx context.Context) error {
	if !d.cache.WaitForCacheSync(ctx) {
		return nil // the context ended
	}
	d.policies.wait(ctx)
	for {
		if err := d.look(ctx); err != nil {
			d.log.Error("reading the documents in the cluster", "error", err)
			d.events.raise()
		}
		if !d.wait(ctx) {
			return nil
		}
	}
}

// looking is how often the clock is looked at: it may be set, and it may stand
// while the machine sleeps.
const looking = 5 * time.Second

// wait waits until documents have changed, or it is another day. It returns
// false when the context has ended.
func (d *documents) wait(ctx context.Context) bool {
	clock := time.NewTicker(looking)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-d.events:
			d.events.settle(ctx, quiet, patience)
			return true
		case <-clock.C:
			if !d.today().Equal(d.lastDay) {
				return true
			}
		}
	}
}

// today is the day for which exceptions and ages hold.
func (d *documents) today() time.Time { return d.now().UTC().Truncate(24 * time.Hour) }

// look reads the documents and, if they are valid, puts them into force. If they
// are not, what was in force stays; a replica that does not lead, or that has
// nothing in force yet, takes what the leader kept.
func (d *documents) look(ctx context.Context) error {
	live, err := d.list(ctx)
	if err != nil {
		return err
	}
	docs := make([]document, len(live))
	for i := range live {
		docs[i] = live[i].document
	}
	day, before := d.today(), d.looked.Load()
	now := &state{documents: live}
	of, unread := d.policies.documents(func() []document { return d.lastGood(ctx) })
	docs, now.unread = append(docs, of...), unread
	sum := hash(sorted(docs))
	unserved, err := d.unserved(ctx)
	if err != nil {
		return err
	}
	switch {
	case unserved != "":
		now.wrong, sum = mistakes{{}: unserved}, ""
	case before != nil && sum == d.last && day.Equal(d.lastDay):
		now.wrong, now.accepted = before.wrong, before.accepted
	default:
		s, wrong := d.compiler.compile(docs, day)
		now.wrong, now.accepted = wrong, s != nil
		if s != nil {
			d.adopt(s, "cluster")
		}
	}
	if !now.accepted {
		d.fallBack(ctx, day)
	}
	d.tellWrong(before, now)
	d.last, d.lastDay = sum, day
	d.looked.Store(now)
	d.measure(now)
	d.tell()
	return nil
}

// unserved says which kind of documents the API does not serve, or is about to
// serve no more; "" if it serves them all. The documents of such a kind are gone
// without anybody having taken back what they say.
func (d *documents) unserved(ctx context.Context) (string, error) {
	for _, k := range documentKinds {
		name := k.resource + "." + v1alpha1.Group
		crd := metadataOf(crdGVK)
		err := d.cache.Get(ctx, client.ObjectKey{Name: name}, crd)
		switch {
		case apierrors.IsNotFound(err) || err == nil && !crd.DeletionTimestamp.IsZero():
			return fmt.Sprintf("the CustomResourceDefinition %s was deleted, and with it what it defines: install it again, and apply what it defines", name), nil
		case err != nil:
			return "", fmt.Errorf("reading the CustomResourceDefinition %s: %w", name, err)
		}
	}
	return "", nil
}

// lastGood returns the documents of the set in force, or of the last good one.
func (d *documents) lastGood(ctx context.Context) []document {
	if s := d.force.Load(); s != nil {
		return s.documents
	}
	docs, err := d.kept(ctx)
	if err != nil {
		d.log.Error("reading the last good set", "error", err)
	}
	return docs
}

// list returns the documents in the cache.
func (d *documents) list(ctx context.Context) ([]liveDocument, error) {
	var out []liveDocument
	for _, k := range documentKinds {
		var list unstructured.UnstructuredList
		list.SetGroupVersionKind(schema.FromAPIVersionAndKind(v1alpha1.APIVersion, k.kind+"List"))
		if err := d.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing %s.%s: %w", k.resource, v1alpha1.Group, err)
		}
		for i := range list.Items {
			doc, err := liveOf(&list.Items[i])
			if err != nil {
				return nil, err
			}
			out = append(out, doc)
		}
	}
	return out, nil
}

func liveOf(u *unstructured.Unstructured) (liveDocument, error) {
	out := liveDocument{document: document{key: key{u.GetKind(), u.GetName()}}, generation: u.GetGeneration()}
	var err error
	if out.Spec, err = json.Marshal(u.Object["spec"]); err != nil {
		return out, fmt.Errorf("reading %s: %w", out.key, err)
	}
	if status, err := json.Marshal(u.Object["status"]); err == nil {
		_ = json.Unmarshal(status, &out.status) // what is no status is written anew
	}
	return out, nil
}

func sorted(docs []document) []document {
	return slices.SortedFunc(slices.Values(docs), document.compare)
}

// adopt puts a set into force, whole.
func (d *documents) adopt(s *set, from string) {
	if before := d.force.Load(); before != nil && before.hash == s.hash && before.day.Equal(s.day) {
		return // it is what is in force: nothing need be read again
	}
	before := d.force.Swap(s)
	d.metrics.forget(before.gone(s))
	d.log.Info("set in force", "baseline", s.baseline.Name, "hash", s.hash, "rules", len(s.baseline.Rules), "documents", len(s.documents), "from", from, "kubernetesVersion", s.baseline.Version.String())
	for _, name := range s.expired {
		d.log.Warn("exception has expired and excuses nothing", "exception", name)
	}
	for i, r := range s.refused {
		if i == told {
			d.log.Warn("more policies are left out", "count", len(s.refused)-told)
			break
		}
		d.log.Warn("policy is left out", "from", r.from, "policy", r.at, "error", r.why)
	}
	for k, why := range s.absent {
		d.log.Warn("document names a rule of a policy that is not there", "kind", k.Kind, "name", k.Name, "error", why)
	}
	d.metrics.baseline.Reset()
	d.metrics.baseline.WithLabelValues(s.baseline.Name, s.hash).Set(1)
	d.metrics.rules.Reset()
	for _, r := range s.baseline.Rules {
		d.metrics.rules.WithLabelValues(string(r.Action)).Inc()
	}
	setTime(d.metrics.inForce, d.now())
	d.metrics.expired.Set(float64(len(s.expired)))
}

// fallBack takes over what is kept, where this replica has nothing better, and
// sees to it that what is in force holds as of the day.
func (d *documents) fallBack(ctx context.Context, day time.Time) {
	current := d.force.Load()
	docs, err := d.kept(ctx)
	switch {
	case err != nil:
		d.log.Error("reading the last good set", "error", err)
	case docs != nil && (current == nil || !d.leads() && hash(docs) != current.hash):
		s, wrong := d.compiler.compile(docs, day)
		if s != nil {
			d.adopt(s, "last good set")
			return
		}
		d.log.Error("the last good set is not valid any more", "error", wrong)
	}
	if current != nil && !current.day.Equal(day) {
		if s, _ := d.compiler.compile(current.documents, day); s != nil {
			d.adopt(s, "memory")
		}
	}
}

// kept returns the documents of the last good set; nil if none is kept.
func (d *documents) kept(ctx context.Context) ([]document, error) {
	var cm corev1.ConfigMap
	err := d.cache.Get(ctx, client.ObjectKey{Namespace: d.namespace, Name: KeptName}, &cm)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the ConfigMap %s/%s: %w", d.namespace, KeptName, err)
	}
	data, ok := cm.BinaryData[keptField]
	if !ok {
		return nil, nil // as it is installed
	}
	return unpack(data)
}

// tellWrong logs what is wrong, once for each change.
func (d *documents) tellWrong(before, now *state) {
	if len(now.unread) > 0 && (before == nil || !slices.Equal(before.unread, now.unread)) {
		for _, r := range now.unread {
			d.log.Error("policies cannot be read", "from", r.from, "source", r.at, "error", r.why)
		}
	}
	if before != nil && maps.Equal(before.wrong, now.wrong) && before.accepted == now.accepted {
		return
	}
	for k, why := range now.wrong {
		d.log.Error("document is not valid", "kind", k.Kind, "name", k.Name, "error", why)
	}
	if now.accepted {
		return
	}
	if s := d.force.Load(); s != nil {
		d.log.Error("the documents are not valid as a whole: the last good set stays in force", "hash", s.hash)
		return
	}
	d.log.Error("the documents are not valid as a whole, and there is no last good set: nothing is in force")
}

func (d *documents) measure(s *state) {
	setBool(d.metrics.accepted, s.accepted)
	counts := map[[2]string]int{}
	for _, k := range documentKinds {
		counts[[2]string{k.kind, "true"}], counts[[2]string{k.kind, "false"}] = 0, 0
	}
	for i := range s.documents {
		valid := "true"
		if s.wrong[s.documents[i].key] != "" {
			valid = "false"
		}
		counts[[2]string{s.documents[i].Kind, valid}]++
	}
	for labels, n := range counts {
		d.metrics.documents.WithLabelValues(labels[0], labels[1]).Set(float64(n))
	}
	leftOut := map[string]int{fromFiles: 0, fromCluster: 0}
	for _, r := range slices.Concat(s.unread, d.force.Load().leftOut()) {
		leftOut[r.from]++
	}
	for from, n := range leftOut {
		d.metrics.leftOut.WithLabelValues(from).Set(float64(n))
	}
}

// keep writes the set in force where a replica that is started while the
// documents are not valid finds it. The leader does.
func (d *documents) keep(ctx context.Context) error {
	s := d.force.Load()
	if s == nil {
		return nil
	}
	err := d.write(ctx, s)
	setBool(d.metrics.kept, err == nil)
	return err
}

func (d *documents) write(ctx context.Context, s *set) error {
	var now corev1.ConfigMap
	err := d.cache.Get(ctx, client.ObjectKey{Namespace: d.namespace, Name: KeptName}, &now)
	if err == nil && now.Annotations[hashAnnotation] == s.hash {
		return nil
	}
	data, err := pack(s.documents)
	if err != nil {
		return err
	}
	kept := applycorev1.ConfigMap(KeptName, d.namespace).
		WithLabels(map[string]string{managedBy: Name}).
		WithAnnotations(map[string]string{hashAnnotation: s.hash}).
		WithBinaryData(map[string][]byte{keptField: data})
	if _, err := d.client.CoreV1().ConfigMaps(d.namespace).Apply(ctx, kept, applied); err != nil {
		return fmt.Errorf("writing the ConfigMap %s/%s: %w: a replica that is started while a document is not valid would have nothing in force", d.namespace, KeptName, err)
	}
	return nil
}
