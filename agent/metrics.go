// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sconce.dev/sconce/verdict"
)

// Values of labels. Labels are of bounded sets: controls, severities, actions,
// outcomes, operations; never names of objects or namespaces.
const (
	resultOK      = "ok"
	resultError   = "error"
	resultRefused = "refused" // the edit could not be made, and nothing was
)

// metrics is what the agent counts. Durations are in seconds, times in seconds
// since 1970.
type metrics struct {
	requests   *prometheus.CounterVec // webhook, operation, decision
	refused    *prometheus.CounterVec // reason
	leader     prometheus.Gauge       // 0 or 1
	duration   prometheus.Histogram   // seconds
	denials    *prometheus.CounterVec // control, action
	warnings   *prometheus.CounterVec // control
	unjudged   *prometheus.CounterVec // control, failure_policy
	mutations  prometheus.Counter     //
	documents  *prometheus.GaugeVec   // kind, accepted
	accepted   prometheus.Gauge       // 0 or 1
	inForce    prometheus.Gauge       // time
	baseline   *prometheus.GaugeVec   // baseline, hash
	rules      *prometheus.GaugeVec   // action
	expired    prometheus.Gauge       //
	kept       prometheus.Gauge       // 0 or 1
	leftOut    *prometheus.GaugeVec   // from
	expiry     prometheus.Gauge       // time
	drift      *prometheus.CounterVec // control
	remedies   *prometheus.CounterVec // control, result
	reports    *prometheus.CounterVec // result
	events     *prometheus.CounterVec // reason
	rejudging  prometheus.Histogram   // seconds
	feeds      prometheus.Gauge       //
	synced     prometheus.Gauge       // 0 or 1
	lastSync   prometheus.Gauge       // time
	webhooks   *prometheus.CounterVec // result
	collectors []prometheus.Collector // all of these
	audit      *auditCollector        // what an audit finds
}

// newMetrics makes the metrics and registers them. What the audit finds is
// asked of summary whenever it is scraped; nil for a replica that audits
// nothing.
func newMetrics(registry prometheus.Registerer, summary func() *auditSummary) (*metrics, error) {
	m := &metrics{audit: &auditCollector{summary: summary}}
	m.admission()
	m.set()
	m.rest()
	for _, c := range append(m.collectors, m.audit) {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) admission() {
	m.requests = m.counters("sconce_admission_requests_total", "Answered requests, by webhook (fail, ignore, mutate: a request can be put to several), operation (CREATE, UPDATE, DELETE, CONNECT) and by what was decided (allowed, warned, denied, skipped).", "webhook", "operation", "decision")
	m.refused = m.counters("sconce_admission_refused_total", "Requests to the webhook that got no answer, by reason (method, client, type, size, slow, body, version, busy, not-ready, fault).", "reason")
	m.duration = m.histogram("sconce_admission_duration_seconds", "Time that the webhook took for a request.", .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5)
	m.denials = m.counters("sconce_admission_denials_total", "Requests that a control denied, by its action (deny, ratchet).", "control", "action")
	m.warnings = m.counters("sconce_admission_warnings_total", "Requests of which a control warned.", "control")
	m.unjudged = m.counters("sconce_admission_unknown_total", "Requests for which a control could not decide, by the failure policy that then held (Fail, Ignore).", "control", "failure_policy")
	m.mutations = prometheus.NewCounter(prometheus.CounterOpts{Name: "sconce_admission_mutations_total", Help: "Requests that the mutating webhook changed."})
	m.collectors = append(m.collectors, m.mutations)
	m.webhooks = m.counters("sconce_webhook_configuration_writes_total", "Writes of the webhook configurations, by result (ok, error).", "result")
}

func (m *metrics) set() {
	m.documents = m.gauges("sconce_documents", "Controls, Baselines, Exceptions and Frameworks in the cluster, by kind and by whether they are valid (true, false).", "kind", "accepted")
	m.accepted = m.gauge("sconce_baseline_accepted", "1 if what the documents in the cluster say is in force; 0 if the last good set is, because they are not valid as a whole.")
	m.inForce = m.gauge("sconce_baseline_in_force_timestamp_seconds", "When the set that is in force came into force in this process, in seconds since 1970.")
	m.baseline = m.gauges("sconce_baseline_info", "1, with the name of the baseline that is enforced and a hash of the set that is in force.", "baseline", "hash")
	m.rules = m.gauges("sconce_baseline_rules", "Controls that are on, by action.", "action")
	m.expired = m.gauge("sconce_exceptions_expired", "Exceptions whose last day has passed: they excuse nothing.")
	m.kept = m.gauge("sconce_last_good_kept", "1 if the set in force is kept in the cluster for a restart; 0 if it could not be.")
	m.leftOut = m.gauges("sconce_policies_left_out", "Policies in other languages that are not in force since they are not valid, and sources of them that cannot be read, by where they come from (files, cluster).", "from")
	m.expiry = m.gauge("sconce_certificate_expiry_timestamp_seconds", "When the certificate of the webhook ends, in seconds since 1970.")
}

func (m *metrics) rest() {
	m.leader = m.gauge("sconce_leader", "1 in the replica that leads: it audits and writes; 0 in the others.")
	m.drift = m.counters("sconce_drift_total", "Findings that appeared on objects that met the control before.", "control")
	m.remedies = m.counters("sconce_remediations_total", "Edits that the agent set out to make, by result (ok, refused, error).", "control", "result")
	m.reports = m.counters("sconce_report_writes_total", "Writes of reports, deletions included, by result (ok, error).", "result")
	m.events = m.counters("sconce_events_total", "Events that were recorded, by reason.", "reason")
	m.rejudging = m.histogram("sconce_audit_change_duration_seconds", "Time from the first change that was not yet counted to when all verdicts were up to date again.", .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60)
	m.feeds = m.gauge("sconce_audit_kinds", "Kinds that the audit watches.")
	m.synced = m.gauge("sconce_audit_synced", "1 if every kind was read since the set in force last changed; 0 while that is under way, or in a replica that does not audit.")
	m.lastSync = m.gauge("sconce_audit_last_sync_timestamp_seconds", "When the verdicts were last up to date with all that was seen, in seconds since 1970.")
}

// forget drops what was counted of rules that are no more: in some clusters
// whoever owns a namespace can make policies, with ever new names.
func (m *metrics) forget(rules []string) {
	for _, name := range rules {
		for _, c := range []*prometheus.CounterVec{m.denials, m.warnings, m.unjudged, m.drift, m.remedies} {
			c.DeletePartialMatch(prometheus.Labels{"control": name})
		}
	}
}

func (m *metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.collectors = append(m.collectors, c)
	return c
}

func (m *metrics) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.collectors = append(m.collectors, g)
	return g
}

func (m *metrics) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	m.collectors = append(m.collectors, g)
	return g
}

func (m *metrics) histogram(name, help string, buckets ...float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	m.collectors = append(m.collectors, h)
	return h
}

// setTime sets a gauge to a time; 0 where there is none.
func setTime(g prometheus.Gauge, t time.Time) {
	if t.IsZero() {
		g.Set(0)
		return
	}
	g.Set(float64(t.UnixMilli()) / 1000)
}

// setBool sets a gauge to 1 or 0.
func setBool(g prometheus.Gauge, on bool) {
	if on {
		g.Set(1)
		return
	}
	g.Set(0)
}

// auditSummary is what an audit has found so far.
type auditSummary struct {
	*verdict.Summary
	severity map[string]string // of every control
}

// auditCollector tells what an audit found at the time of a scrape, so that no
// series of a control that is off, or of a leader that was, is left behind.
type auditCollector struct {
	summary func() *auditSummary
}

var (
	auditVerdicts = prometheus.NewDesc("sconce_audit_findings", "Verdicts of the audit on objects, by control, severity and outcome (fail, unknown, excepted): one for each object and control.", []string{"control", "severity", "outcome"}, nil)
	auditObjects  = prometheus.NewDesc("sconce_audit_objects", "Objects that the audit holds against the baseline.", nil, nil)
	auditProblems = prometheus.NewDesc("sconce_audit_problems", "What the audit could not read: kinds that may not be listed, and the like. It is unknown, and never a pass.", nil, nil)
	auditScore    = prometheus.NewDesc("sconce_audit_score_ratio", "Share of verdicts that pass, from 0 to 1: what is unknown counts as failed in the bound low and as passed in the bound high.", []string{"bound"}, nil)
)

// Describe implements prometheus.Collector.
func (c *auditCollector) Describe(to chan<- *prometheus.Desc) {
	to <- auditVerdicts
	to <- auditObjects
	to <- auditProblems
	to <- auditScore
}

// Collect implements prometheus.Collector.
func (c *auditCollector) Collect(to chan<- prometheus.Metric) {
	s := c.summary()
	if s == nil {
		return
	}
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	for control, counts := range s.ByControl {
		severity := s.severity[control]
		gauge(auditVerdicts, float64(counts.Fail), control, severity, "fail")
		gauge(auditVerdicts, float64(counts.Unknown), control, severity, "unknown")
		gauge(auditVerdicts, float64(counts.Excepted), control, severity, "excepted")
	}
	gauge(auditObjects, float64(s.Objects))
	gauge(auditProblems, float64(s.Problems))
	low, high := s.Score()
	gauge(auditScore, low/100, "low")
	gauge(auditScore, high/100, "high")
}
