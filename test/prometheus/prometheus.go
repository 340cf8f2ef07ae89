// SPDX-License-Identifier: Apache-2.0

// Package prometheus runs a real Prometheus for tests, and promtool.
package prometheus

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"sconce.dev/sconce/test/process"
)

// startTimeout is how long Prometheus may take to come up.
const startTimeout = time.Minute

// Promtool runs promtool and returns all that it printed, and an error if it
// found something wrong.
func Promtool(t testing.TB, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(need(t), "promtool"), args...).CombinedOutput()
	return string(out), err
}

// Program is the path of prometheus or promtool.
func Program(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(need(t), name)
}

// Start runs a Prometheus on loopback with a configuration and stops it when
// the test ends. It skips the test unless SCONCE_E2E is 1, and fails it
// where there is no Prometheus.
func Start(t testing.TB, config string) v1.API {
	t.Helper()
	bin, dir := need(t), t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ports, err := process.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + ports[0]
	p := &process.Process{
		Path: filepath.Join(bin, "prometheus"),
		Args: []string{"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address},
		Log:  filepath.Join(dir, "prometheus.log"),
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	client, err := api.NewClient(api.Config{Address: "http://" + address})
	if err != nil {
		t.Fatal(err)
	}
	server := v1.NewAPI(client)
	if err := waitReady(t.Context(), p, server); err != nil {
		t.Fatal(err)
	}
	return server
}

func waitReady(ctx context.Context, p *process.Process, server v1.API) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if _, err := server.Runtimeinfo(ctx); err == nil {
			return nil
		}
		if err := p.Ended(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for Prometheus: %w; the last that it logged:\n%s", ctx.Err(), p.Tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// need is the folder of prometheus and promtool.
func need(t testing.TB) string {
	t.Helper()
	return process.Programs(t, "test/prometheus.sh", "prometheus", "promtool")
}
