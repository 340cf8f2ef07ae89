// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/test/prometheus"
)

// TestPrometheus holds that there is a Prometheus that answers queries, and
// that promtool refuses what is wrong.
func TestPrometheus(t *testing.T) {
	server := prometheus.Start(t, "global: {scrape_interval: 1s}\n")
	value, _, _, err := server.Query(t.Context(), "vector(7)", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(value.String(), "{} => 7 @") {
		t.Errorf("got %s, want 7", value)
	}
	if out, err := prometheus.Promtool(t, "check", "rules", "no-such-file.yaml"); err == nil {
		t.Errorf("promtool takes a file that does not exist: %s", out)
	}
}
