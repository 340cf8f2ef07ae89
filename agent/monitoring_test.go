// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// described returns the labels of every metric that an agent has.
func described(t *testing.T) map[string][]string {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry(), func() *auditSummary { return nil })
	if err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		for _, c := range append(m.collectors, m.audit) {
			c.Describe(descs)
		}
	}()
	form := regexp.MustCompile(`fqName: "([^"]+)".* variableLabels: \{([^}]*)\}`)
	out := map[string][]string{}
	for d := range descs {
		found := form.FindStringSubmatch(d.String())
		if found == nil {
			t.Fatalf("a metric is described as %s", d)
		}
		out[found[1]] = strings.Split(found[2], ",")
	}
	return out
}

// TestMonitored holds that the alerts and the dashboard ask for metrics and
// labels that there are, and that every metric is in one of them.
func TestMonitored(t *testing.T) {
	metrics := described(t)
	asked := map[string]bool{}
	for _, file := range []string{"../config/prometheus/rules.yaml", "../config/grafana/sconce.json"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(data), `\"`, `"`)
		for _, name := range regexp.MustCompile(`\bsconce_[a-z_]+`).FindAllString(text, -1) {
			name = strings.TrimSuffix(name, "_bucket")
			if asked[name] = true; metrics[name] == nil {
				t.Errorf("%s asks for %s, which no agent has", file, name)
			}
		}
		for _, of := range regexp.MustCompile(`\bsconce_[a-z_]+\{([^}]*)\}`).FindAllStringSubmatch(text, -1) {
			name, _, _ := strings.Cut(of[0], "{")
			for _, label := range regexp.MustCompile(`([a-z_]+)[!=]=?~?"`).FindAllStringSubmatch(of[1], -1) {
				if label[1] != "job" && label[1] != "le" && !slices.Contains(metrics[strings.TrimSuffix(name, "_bucket")], label[1]) {
					t.Errorf("%s asks for the label %s of %s, which it has not", file, label[1], name)
				}
			}
		}
	}
	for name := range metrics {
		if !asked[name] {
			t.Errorf("%s is neither in an alert nor on the dashboard", name)
		}
	}
}
