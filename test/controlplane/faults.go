// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"sconce.dev/sconce/test/process"
)

// StopAPIServer stops the API server as an upgrade does. Its address refuses
// connections until StartAPIServer.
func (c *ControlPlane) StopAPIServer(t testing.TB) {
	t.Helper()
	stop(t, c.apiserver)
}

// KillAPIServer ends the API server without a word to its clients.
func (c *ControlPlane) KillAPIServer(t testing.TB) {
	t.Helper()
	c.apiserver.Kill()
}

// StartAPIServer starts the API server that was stopped, on the same address
// and with the same data, and waits until it is ready.
func (c *ControlPlane) StartAPIServer(t testing.TB) {
	t.Helper()
	must(t, c.apiserver.Start())
	c.WaitReady(t)
}

// StopEtcd ends etcd at once, as a crash does: when asked to, it waits for the
// API server's watches. The API server goes on and answers with errors.
func (c *ControlPlane) StopEtcd(t testing.TB) {
	t.Helper()
	c.etcd.Kill()
}

// StartEtcd starts the etcd that was stopped, with the same data, and waits
// until the API server is ready again. That has a connection for each kind,
// some of which come back a few seconds later.
func (c *ControlPlane) StartEtcd(t testing.TB) {
	t.Helper()
	must(t, c.etcd.Start())
	c.WaitReady(t)
}

// StopControllers stops the controller manager, so nothing reconciles.
func (c *ControlPlane) StopControllers(t testing.TB) {
	t.Helper()
	stop(t, c.manager)
}

// StartControllers starts the controller manager that was stopped, or that
// Options.NoControllers left out.
func (c *ControlPlane) StartControllers(t testing.TB) {
	t.Helper()
	must(t, c.manager.Start())
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	must(t, c.waitControllers(ctx))
}

// PauseAPIServer has the API server accept connections and answer nothing.
func (c *ControlPlane) PauseAPIServer(t testing.TB) {
	t.Helper()
	must(t, c.apiserver.Pause())
}

// ResumeAPIServer ends PauseAPIServer.
func (c *ControlPlane) ResumeAPIServer(t testing.TB) {
	t.Helper()
	must(t, c.apiserver.Resume())
	c.WaitReady(t)
}

// PauseEtcd has etcd answer nothing: every request to the API server that needs
// it hangs until its time is over.
func (c *ControlPlane) PauseEtcd(t testing.TB) {
	t.Helper()
	must(t, c.etcd.Pause())
}

// ResumeEtcd ends PauseEtcd.
func (c *ControlPlane) ResumeEtcd(t testing.TB) {
	t.Helper()
	must(t, c.etcd.Resume())
	c.WaitReady(t)
}

// RefuseWrites has etcd refuse all writes as when it is out of space: it raises
// the alarm that it raises then. Reads, watches and deletions go on.
func (c *ControlPlane) RefuseWrites(t testing.TB) {
	t.Helper()
	must(t, c.alarm("ACTIVATE"))
}

// AcceptWrites ends RefuseWrites.
func (c *ControlPlane) AcceptWrites(t testing.TB) {
	t.Helper()
	must(t, c.alarm("DEACTIVATE"))
}

func (c *ControlPlane) alarm(action string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	body := fmt.Sprintf(`{"action": %q, "alarm": "NOSPACE"}`, action)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.etcdURL()+"/v3/maintenance/alarm", bytes.NewBufferString(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%s the alarm NOSPACE of etcd: %w", action, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("%s the alarm NOSPACE of etcd: %s: %s", action, resp.Status, text)
	}
	return nil
}

// WaitReady waits until the API server says that it is ready.
func (c *ControlPlane) WaitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	must(t, c.waitReady(ctx))
}

func stop(t testing.TB, p *process.Process) {
	t.Helper()
	_, err := p.Stop()
	must(t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
