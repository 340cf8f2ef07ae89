// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/client-go/rest"

	"sconce.dev/sconce/verdict"
)

var restConfig rest.Config

// TestMetrics holds that metrics are named as Prometheus wants them, and that
// what the audit finds is told at the time of a scrape.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	var found *auditSummary
	m, err := newMetrics(registry, func() *auditSummary { return found })
	if err != nil {
		t.Fatal(err)
	}
	m.requests.WithLabelValues("fail", "CREATE", "denied").Inc()
	m.denials.WithLabelValues("host-network", "deny").Inc()
	m.reports.WithLabelValues(resultOK).Inc()
	if n, err := testutil.GatherAndCount(registry, "sconce_audit_findings"); n != 0 || err != nil {
		t.Errorf("%d findings are told by a replica that does not audit, %v", n, err)
	}
	found = &auditSummary{
		Summary:  &verdict.Summary{ByControl: map[string]verdict.Counts{"host-network": {Pass: 3, Fail: 1}}, Verdicts: verdict.Counts{Pass: 3, Fail: 1}, Objects: 4, Problems: 1},
		severity: map[string]string{"host-network": "high"},
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	err = testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP sconce_audit_findings Verdicts of the audit on objects, by control, severity and outcome (fail, unknown, excepted): one for each object and control.
# TYPE sconce_audit_findings gauge
sconce_audit_findings{control="host-network",outcome="excepted",severity="high"} 0
sconce_audit_findings{control="host-network",outcome="fail",severity="high"} 1
sconce_audit_findings{control="host-network",outcome="unknown",severity="high"} 0
# HELP sconce_audit_score_ratio Share of verdicts that pass, from 0 to 1: what is unknown counts as failed in the bound low and as passed in the bound high.
# TYPE sconce_audit_score_ratio gauge
sconce_audit_score_ratio{bound="high"} 0.75
sconce_audit_score_ratio{bound="low"} 0.75
`), "sconce_audit_findings", "sconce_audit_score_ratio")
	if err != nil {
		t.Error(err)
	}
}

var update = flag.Bool("update", false, "write what the documentation says of the metrics")

// TestMetricsDocumented holds the table of metrics in the documentation against
// the program.
func TestMetricsDocumented(t *testing.T) {
	const file, begin, end = "../docs/agent.md", "| metric |", "\n## What it needs"
	registry := prometheus.NewPedanticRegistry()
	m, err := newMetrics(registry, func() *auditSummary { return nil })
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range append(m.collectors, m.audit) {
		descriptions := make(chan *prometheus.Desc, 10)
		c.Describe(descriptions)
		close(descriptions)
		for d := range descriptions {
			parts := descriptionForm.FindStringSubmatch(d.String())
			if parts == nil {
				t.Fatalf("cannot read %s", d)
			}
			labels := strings.ReplaceAll(parts[3], ",", ", ")
			lines = append(lines, fmt.Sprintf("| `%s` | %s | %s |\n", parts[1], labels, parts[2]))
		}
	}
	slices.Sort(lines)
	want := begin + " labels | what it says |\n|---|---|---|\n" + strings.Join(lines, "")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no table of metrics", file)
	}
	text := before + want + end + after
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if text != string(data) {
		t.Errorf("%s is not what the program has: go test ./agent -run %s -update", file, t.Name())
	}
}

// descriptionForm reads a metric's description, which tells nothing but by its text.
var descriptionForm = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "([^"]*)",.* constLabels: \{\}, variableLabels: \{([^}]*)\}`)
