// SPDX-License-Identifier: Apache-2.0

// Package agent is the process that runs in a cluster: it answers the API server
// by the Baseline that is in force, audits what is there as it changes, writes
// reports, and tells of drift.
//
// It wires: what is judged, and how, is the business of the packages below. Every
// replica answers the API server; the audit, and everything that is written, is
// done by the one that leads.
package agent

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/report/openreports"
	"sconce.dev/sconce/source/cluster"
)

// Name is what the agent calls what it makes: its webhook configurations, and
// its reports.
const Name = "sconce"

const (
	fieldManager   = "sconce-agent"
	managedBy      = "app.kubernetes.io/managed-by"
	hashAnnotation = "sconce.dev/hash"
)

// applied is how objects are written that the agent owns: by server-side apply,
// taking over what somebody else has set.
var applied = metav1.ApplyOptions{FieldManager: fieldManager, Force: true}

// Options say what an agent does, and where.
type Options struct {
	// Config is how the API server is reached.
	Config *rest.Config
	// Namespace is the agent's own.
	Namespace string
	// Baseline is the name of the Baseline object that is enforced.
	Baseline string

	// WebhookAddress is where the API server is answered. WebhookService is the
	// Service in the namespace by which it calls there; or WebhookURL begins the
	// address, outside of the cluster.
	WebhookAddress, WebhookService, WebhookURL string
	// WebhookClientCA is a file with the authorities that must have signed the
	// certificate that a caller of the webhook shows, and WebhookClients are the
	// names that it may be of; every name if there are none. Empty asks for no
	// certificate: an API server shows one only where its AdmissionConfiguration
	// says so.
	WebhookClientCA string
	WebhookClients  []string
	// MetricsAddress and HealthAddress are where /metrics, and /healthz and
	// /readyz are; empty for nowhere.
	MetricsAddress, HealthAddress string
	// Drain is how long requests are taken after the end was asked for.
	Drain time.Duration

	// LeaderElect lets one of several replicas lead; without it, this one does.
	LeaderElect bool
	Lease       Lease
	// Identity tells this replica from others; one is made if it is empty.
	Identity string

	// Mutate keeps the mutating webhook, Remediate mends what is in the cluster:
	// both where the baseline says so.
	Mutate, Remediate bool
	// Reports are openreports, policyreports or none; ReportInterval is how long
	// changes are gathered before they are written.
	Reports        string
	ReportInterval time.Duration
	// Exempt are namespaces that the webhook is not asked about, beside the
	// agent's own.
	Exempt []string
	// ReadSecrets lets the audit read Secrets.
	ReadSecrets bool
	// Policies are where policies of other languages are read from, and
	// ClusterPolicies adds those that are installed in the cluster: these are
	// audited, and enforced by whatever else does.
	Policies        []PolicySource
	ClusterPolicies bool
	// Renewal is how long the webhook's certificates last.
	Renewal Renewal

	// Log takes what there is to say.
	Log *slog.Logger
	// Now is the clock; time.Now if it is nil.
	Now func() time.Time
}

// Renewal says how long a serving certificate holds, and its authority; what is
// zero is as admission.CertificateOptions has it. Overlap must be longer than
// Check, which is how often is looked whether one is due: 10 minutes if zero.
type Renewal struct {
	Life, CALife, Overlap, Check time.Duration
}

// The reports that there are.
const (
	ReportsNone    = "none"
	defaultReports = "openreports"
)

// DefaultReportInterval is how long changes are gathered before reports are
// written.
const DefaultReportInterval = 10 * time.Second

// complete fills what is not set, and says what cannot be.
func (o Options) complete() (Options, error) {
	switch {
	case o.Config == nil:
		return o, errors.New("no cluster is configured")
	case o.Namespace == "":
		return o, errors.New("the agent's own namespace is not named: set --namespace")
	case (o.WebhookService == "") == (o.WebhookURL == ""):
		return o, errors.New("say how the API server reaches the webhook: set --webhook-service or --webhook-url, and not both")
	case len(o.WebhookClients) > 0 && o.WebhookClientCA == "":
		return o, errors.New("--webhook-clients names who may ask, and nobody is known by a name that no certificate proves: set --webhook-client-ca")
	}
	if o.WebhookURL != "" {
		if u, err := url.Parse(o.WebhookURL); err != nil || u.Scheme != "https" || u.Hostname() == "" {
			return o, fmt.Errorf("--webhook-url is %q; want the beginning of an address, as in https://192.0.2.7:9443", o.WebhookURL)
		}
	}
	o.Reports = cmp.Or(o.Reports, defaultReports)
	if o.Reports != ReportsNone {
		if _, err := openreports.ParseAPI(o.Reports); err != nil {
			return o, fmt.Errorf("--reports: %w, or %s", err, ReportsNone)
		}
	}
	o.Baseline = cmp.Or(o.Baseline, "cluster")
	o.ReportInterval = cmp.Or(o.ReportInterval, DefaultReportInterval)
	o.Lease = cmp.Or(o.Lease, DefaultLease)
	o.Renewal.Check = cmp.Or(o.Renewal.Check, refreshing)
	o.Exempt = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(o.Exempt), o.Namespace))))
	if o.Identity == "" {
		host, err := os.Hostname()
		if err != nil {
			host = Name
		}
		o.Identity = host + "_" + string(uuid.NewUUID())
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

// names are what the API server calls the webhook by.
func (o *Options) names() []string {
	if o.WebhookURL == "" {
		return []string{o.WebhookService + "." + o.Namespace + ".svc"}
	}
	u, _ := url.Parse(o.WebhookURL) // complete has read it
	return []string{u.Hostname()}
}

// agent is what the parts of an agent have in common.
type agent struct {
	Options
	kube     kubernetes.Interface
	dynamic  dynamic.Interface
	cluster  *cluster.Cluster
	manager  manager.Manager
	registry *prometheus.Registry
	metrics  *metrics
	recorder *recorder
	self     string

	documents  *documents
	policies   sources
	namespaces namespaces
	certs      *certificates
	auditor    *auditor
	hooks      signal // raised when the webhook configurations may have to change
}

// Run runs an agent until the context ends. What was asked of it before is
// answered, and the lease given back, before it returns.
func Run(ctx context.Context, opts Options) error {
	opts, err := opts.complete()
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	a := &agent{Options: opts}
	for _, step := range []func(context.Context) error{a.connect, a.manage, a.wire, a.watch} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("agent: %w", err)
		}
	}
	if err := a.manager.Start(ctx); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	return nil
}

// connect makes the clients, and asks as whom they are known. An API server that
// is not there yet is waited for.
func (a *agent) connect(ctx context.Context) error {
	config := rest.CopyConfig(a.Config)
	config.UserAgent = fieldManager
	config.QPS, config.Burst = 100, 200
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	if a.kube, err = kubernetes.NewForConfigAndClient(config, client); err != nil {
		return err
	}
	if a.dynamic, err = dynamic.NewForConfigAndClient(config, client); err != nil {
		return err
	}
	backoff := tries()
	for {
		err := a.introduce(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		a.Log.Error("reaching the API server", "error", err)
		pause(ctx, backoff.Step())
	}
}

func (a *agent) introduce(ctx context.Context) error {
	var err error
	if a.cluster, err = cluster.Connect(a.Config); err != nil {
		return err
	}
	review, err := a.kube.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("asking the API server who this is: %w", err)
	}
	a.self = review.Status.UserInfo.Username
	return nil
}

// manage makes the manager. It caches nothing but what is named here.
func (a *agent) manage(context.Context) error {
	own := map[string]cache.Config{a.Namespace: {}}
	named := func(name string) fields.Selector { return fields.OneTermEqualSelector("metadata.name", name) }
	byObject := map[client.Object]cache.ByObject{
		&corev1.ConfigMap{}:       {Namespaces: own, Field: named(KeptName)},
		metadataOf(secretGVK):     {Namespaces: own, Field: named(SecretName)},
		metadataOf(validatingGVK): {Field: named(Name)},
		metadataOf(mutatingGVK):   {Field: named(Name)},
		metadataOf(crdGVK):        {Transform: nameOnly},
	}
	grace := a.Drain + finishing + 5*time.Second
	config := rest.CopyConfig(a.Config)
	config.QPS = -1
	var err error
	a.manager, err = manager.New(config, manager.Options{
		Scheme: scheme.Scheme, Logger: logr.FromSlogHandler(a.Log.Handler()),
		Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: cmp.Or(a.HealthAddress, "0"),
		GracefulShutdownTimeout: &grace,
		Cache:                   cache.Options{ByObject: byObject, DefaultTransform: cache.TransformStripManagedFields()},
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	return nil
}

// The kinds whose metadata is watched.
var (
	secretGVK     = corev1.SchemeGroupVersion.WithKind("Secret")
	validatingGVK = admissionv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration")
	mutatingGVK   = admissionv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration")
	crdGVK        = apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition")
)

// nameOnly leaves of an object's metadata what tells that it has changed.
func nameOnly(of any) (any, error) {
	if m, ok := of.(*metav1.PartialObjectMetadata); ok {
		m.ManagedFields, m.Annotations, m.Labels = nil, nil, nil
	}
	return of, nil
}

// metadataOf returns what stands for a kind whose metadata is watched.
func metadataOf(gvk schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	out := &metav1.PartialObjectMetadata{}
	out.SetGroupVersionKind(gvk)
	return out
}

// wire makes the parts, and has the manager start them.
func (a *agent) wire(context.Context) error {
	a.registry = prometheus.NewRegistry()
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.auditor = &auditor{cluster: a.cluster, secrets: a.ReadSecrets, served: newSignal(), updated: newSignal(), log: a.Log}
	var err error
	if a.metrics, err = newMetrics(a.registry, a.auditor.summary); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	a.recorder = newRecorder(a.manager.GetEventRecorder(fieldManager), a.metrics)
	version, err := control.ParseVersion(baselineVersion(a.cluster.Version()))
	if err != nil {
		a.Log.Warn("the version of the API server is not known; the newest is taken", "version", a.cluster.Version())
	}
	a.documents = &documents{
		cache: a.manager.GetCache(), client: a.kube, policies: &a.policies,
		namespace: a.Namespace, log: a.Log, metrics: a.metrics, now: a.Now, events: newSignal(),
	}
	a.follows()
	a.documents.compiler = &compiler{baseline: a.Baseline, version: version, policies: a.policies.any()}
	a.hooks = a.documents.changes()
	a.certs = &certificates{
		Certificates: admission.NewCertificates(admission.CertificateOptions{
			Store: secretStore{a.kube.CoreV1().Secrets(a.Namespace)}, Names: a.names(), Now: a.Now,
			Life: a.Renewal.Life, CALife: a.Renewal.CALife, Overlap: a.Renewal.Overlap,
		}),
		secret: newSignal(), renewed: a.hooks, log: a.Log, metrics: a.metrics,
	}
	server, err := a.server()
	if err != nil {
		return err
	}
	lead := a.leader()
	a.documents.leads = lead.leading.Load
	parts := []manager.Runnable{a.documents, a.renewing(), server, lead}
	for _, f := range a.policies.folders {
		parts = append(parts, f)
	}
	if a.policies.installed != nil {
		parts = append(parts, a.policies.installed)
	}
	for _, part := range parts {
		if err := a.manager.Add(part); err != nil {
			return err
		}
	}
	return a.probes()
}

// follows makes what follows the sources of policies.
func (a *agent) follows() {
	for _, s := range a.Policies {
		a.policies.folders = append(a.policies.folders, newFolder(s, a.documents.events))
	}
	if a.ClusterPolicies {
		a.policies.installed = newInstalled(a.cluster, a.documents.events)
	}
}

// serverVersion is what the version of an API server begins with.
var serverVersion = regexp.MustCompile(`^v?(\d+\.\d+)(\.\d+)?$`)

// baselineVersion returns the version that a baseline is resolved for. The patch
// version of a distribution's own build does not tell what is mended in it.
func baselineVersion(server string) string {
	if m := serverVersion.FindStringSubmatch(server); m != nil {
		return m[1] + m[2]
	}
	minor := regexp.MustCompile(`^v?\d+\.\d+`).FindString(server)
	return strings.TrimPrefix(minor, "v")
}

// renewing keeps the certificates.
func (a *agent) renewing() *duty {
	return &duty{name: "refreshing the webhook's certificates", wake: a.certs.secret, quiet: 100 * time.Millisecond, patience: time.Second, every: a.Renewal.Check, do: a.certs.refresh, log: a.Log}
}

// server answers the API server.
func (a *agent) server() (*server, error) {
	var clients *x509.CertPool
	if a.WebhookClientCA != "" {
		var err error
		if clients, err = cert.NewPool(a.WebhookClientCA); err != nil {
			return nil, fmt.Errorf("reading --webhook-client-ca: %w", err)
		}
	}
	handler := admission.NewHandler(admission.HandlerOptions{
		Options: admission.Options{Baseline: a.Baseline, Annotations: true, Namespace: a.namespaces.get},
		Engines: func() admission.Engines {
			if s := a.documents.force.Load(); s != nil {
				return s.admission
			}
			return admission.Engines{}
		},
		Answered: a.recorder.answered,
		Refused:  func(reason string) { a.metrics.refused.WithLabelValues(reason).Inc() },
		Clients:  a.WebhookClients,
	})
	return &server{address: a.WebhookAddress, drain: a.Drain, handler: handler, certs: a.certs, clients: clients, log: a.Log}, nil
}

// probes serves what says how the agent is.
func (a *agent) probes() error {
	if err := a.manager.AddHealthzCheck("ping", func(*http.Request) error { return nil }); err != nil {
		return err
	}
	if err := a.manager.AddReadyzCheck("ready", func(*http.Request) error { return a.ready() }); err != nil {
		return err
	}
	if a.MetricsAddress == "" {
		return nil
	}
	listener, err := net.Listen("tcp", a.MetricsAddress)
	if err != nil {
		return fmt.Errorf("listening for metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.Gatherers{a.registry, ctrlmetrics.Registry}, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return a.manager.Add(&manager.Server{Name: "metrics", Listener: listener, Server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}})
}

// ready says why the agent cannot answer the API server yet.
func (a *agent) ready() error {
	switch {
	case a.documents.force.Load() == nil:
		return errors.New("no set is in force yet: is there a valid Baseline " + a.Baseline + "?")
	case a.certs.Expires().IsZero():
		return errors.New("the webhook has no certificate yet")
	case !a.certs.Expires().After(a.Now()):
		return errors.New("the webhook's certificate has expired")
	}
	return nil
}

// watch has the cache follow what the parts depend on.
func (a *agent) watch(ctx context.Context) error {
	if err := a.documents.watch(ctx); err != nil {
		return err
	}
	if err := a.namespaces.watch(ctx, a.manager.GetCache()); err != nil {
		return fmt.Errorf("watching namespaces: %w", err)
	}
	type watching struct {
		gvk schema.GroupVersionKind
		to  signal
	}
	all := []watching{
		{secretGVK, a.certs.secret}, {validatingGVK, a.hooks}, {mutatingGVK, a.hooks}, {crdGVK, a.hooks}, {crdGVK, a.auditor.served}, {crdGVK, a.documents.events},
	}
	if a.policies.installed != nil {
		all = append(all, watching{crdGVK, a.policies.installed.served})
	}
	for _, w := range all {
		if err := watchWith(ctx, a.manager.GetCache(), metadataOf(w.gvk), w.to.handler()); err != nil {
			return fmt.Errorf("watching %s: %w", w.gvk.Kind, err)
		}
	}
	return nil
}

// leader is what the replica does that leads.
func (a *agent) leader() *leader {
	statuses := &statuses{documents: a.documents, client: a.dynamic}
	watchman := &watchman{
		remediate: a.Remediate, client: a.dynamic, recorder: a.recorder, log: a.Log, metrics: a.metrics, now: a.Now, force: a.documents.force.Load, queue: newQueue(),
	}
	a.auditor.force, a.auditor.changed, a.auditor.metrics, a.auditor.appeared = a.documents.force.Load, a.documents.changes(), a.metrics, watchman.appeared
	if a.Remediate {
		a.auditor.again = watchman.again
	}
	out := &leader{
		enabled: a.LeaderElect, client: a.kube, namespace: a.Namespace, identity: a.Identity, lease: a.Lease, log: a.Log, metrics: a.metrics,
		duties: []func(context.Context) error{
			(&duty{name: "keeping the last good set", wake: a.documents.changes(), quiet: quiet, patience: patience, do: a.documents.keep, log: a.Log}).Start,
			(&duty{name: "writing the status of documents", wake: a.documents.changes(), quiet: quiet, patience: patience, do: statuses.write, log: a.Log}).Start,
			a.keepHooks,
			a.auditor.Start,
			watchman.Start,
		},
	}
	if a.Reports != ReportsNone {
		out.duties = append(out.duties, a.reporter().Start)
	}
	return out
}

// keepHooks keeps the webhook configurations as they are to be.
func (a *agent) keepHooks(ctx context.Context) error {
	keeper := &hookKeeper{
		hooks:  hooks{endpoint: endpoint{namespace: a.Namespace, service: a.WebhookService, url: a.WebhookURL}, exempt: a.Exempt, self: a.self},
		mutate: a.Mutate, client: a.kube, force: a.documents.force.Load, served: a.cluster.Kinds, certs: a.certs, log: a.Log, metrics: a.metrics,
	}
	return (&duty{name: "keeping the webhook configurations", wake: a.hooks, quiet: quiet, patience: patience, do: keeper.keep, log: a.Log}).Start(ctx)
}

// follow returns a cache of the agent's reports, and of nobody else's, that lasts
// as long as the agent. There is none until their CRDs are installed: it cannot
// be a part of the manager's.
func (a *agent) follow(api openreports.API) (cache.Cache, error) {
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{managedBy: openreports.Name})}
	out, err := cache.New(a.Config, cache.Options{
		Scheme: scheme.Scheme, DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{metadataOf(api.Kind("")): ours, metadataOf(api.Kind("any")): ours},
	})
	if err != nil {
		return nil, err
	}
	return out, a.manager.Add(out)
}

// reporter writes reports.
func (a *agent) reporter() *duty {
	api, _ := openreports.ParseAPI(a.Reports) // complete has read it
	r := &reporter{api: api, audit: a.auditor, follow: func() (cache.Cache, error) { return a.follow(api) }, client: a.dynamic, log: a.Log, metrics: a.metrics, changed: a.auditor.updated}
	return &duty{name: "writing reports", wake: a.auditor.updated, quiet: a.ReportInterval, patience: a.ReportInterval, do: r.write, log: a.Log}
}
