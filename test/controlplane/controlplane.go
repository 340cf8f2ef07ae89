// SPDX-License-Identifier: Apache-2.0

// Package controlplane runs a real control plane for tests: etcd,
// kube-apiserver and kube-controller-manager on loopback, with certificates,
// ServiceAccounts and RBAC as a cluster has them, and with the faults that a
// cluster has: what is stopped, killed, paused, or out of space.
//
// There is no kubelet and no scheduler, so pods stay Pending. The binaries are
// not built here: test/cluster/build.sh does, once. controller-runtime's
// envtest was weighed: it starts no controller manager, leaves the processes
// running when a test is killed, and gives no hold of them.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"sconce.dev/sconce/test/process"
)

// startTimeout is how long the whole may take to come up. It takes four
// seconds on a machine at rest.
const startTimeout = 3 * time.Minute

// Options are how a control plane differs from the usual one. In the values of
// flags and in the content of files, {dir} is the folder that Dir gives.
type Options struct {
	// NoControllers leaves kube-controller-manager out. There are no default
	// ServiceAccounts then, nothing is collected and no namespace ever goes.
	NoControllers bool
	// APIServerArgs, EtcdArgs and ControllerArgs are flags without dashes,
	// which replace those that are set here; one without values is left out.
	APIServerArgs, EtcdArgs, ControllerArgs map[string][]string
	// Files are written to the folder before anything starts.
	Files map[string]string
	// AuditPolicy is an audit.k8s.io/v1 Policy; AuditLog then names the log.
	AuditPolicy string
	// ValidatingPolicies and MutatingPolicies are manifests of admission
	// policies and bindings that the API server reads from files.
	ValidatingPolicies, MutatingPolicies string
}

// ControlPlane is one that runs.
type ControlPlane struct {
	dir, bin                 string
	pki                      *pki
	etcd, apiserver, manager *process.Process
	etcdPort, port           string
}

// Start starts a control plane and stops it when the test ends. It skips the
// test unless SCONCE_E2E is 1, and fails it where the binaries are absent.
func Start(t testing.TB, opts Options) *ControlPlane {
	t.Helper()
	bin := need(t)
	c, err := start(t.TempDir(), bin, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last that kube-apiserver logged:\n%s", c.apiserver.Tail())
		}
		c.kill()
	})
	return c
}

var shared struct {
	once sync.Once
	dir  string
	c    *ControlPlane
	err  error
}

// Shared is a control plane with no options that the tests of a package share.
// It runs until Main ends it, so tests use namespaces and names of their own
// and cause no faults.
func Shared(t testing.TB) *ControlPlane {
	t.Helper()
	bin := need(t)
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "sconce-controlplane-"); shared.err == nil {
			shared.c, shared.err = start(shared.dir, bin, Options{})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.c
}

// Main is what a package that uses Shared calls from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if shared.c != nil {
		shared.c.kill()
	}
	if err := os.RemoveAll(shared.dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// need is the folder of the binaries: the one that SCONCE_CONTROLPLANE names,
// or the one that test/cluster/build.sh has filled from its present sources.
func need(t testing.TB) string {
	t.Helper()
	programs := []string{"etcd", "kube-apiserver", "kube-controller-manager", "kubectl"}
	dir := os.Getenv("SCONCE_CONTROLPLANE")
	if dir == "" || os.Getenv("SCONCE_E2E") != "1" {
		return process.Programs(t, "test/cluster/build.sh", programs...)
	}
	must(t, process.Has(dir, programs...))
	return dir
}

func start(dir, bin string, opts Options) (*ControlPlane, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		c, err := startOnce(ctx, dir, bin, opts)
		if err == nil {
			return c, nil
		}
		c.kill()
		if !errors.Is(err, process.ErrPortTaken) || ctx.Err() != nil {
			return nil, fmt.Errorf("starting a control plane: %w", err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "etcd")); err != nil {
			return nil, err
		}
	}
}

// startOnce returns the control plane also with an error: what it started is to
// be stopped.
func startOnce(ctx context.Context, dir, bin string, opts Options) (*ControlPlane, error) {
	c := &ControlPlane{dir: dir, bin: bin}
	ports, err := process.FreePorts(4)
	if err != nil {
		return c, err
	}
	c.etcdPort, c.port = ports[0], ports[1]
	if c.pki, err = newPKI(dir); err != nil {
		return c, err
	}
	if err := c.write(opts); err != nil {
		return c, err
	}
	c.etcd = c.program("etcd", c.etcdFlags(ports[2]), opts.EtcdArgs)
	c.apiserver = c.program("kube-apiserver", c.apiserverFlags(opts), opts.APIServerArgs)
	c.manager = c.program("kube-controller-manager", c.managerFlags(ports[3]), opts.ControllerArgs)
	if err := c.etcd.Start(); err != nil {
		return c, err
	}
	if err := c.apiserver.Start(); err != nil {
		return c, err
	}
	if err := c.waitReady(ctx); err != nil || opts.NoControllers {
		return c, err
	}
	if err := c.manager.Start(); err != nil {
		return c, err
	}
	return c, c.waitControllers(ctx)
}

func (c *ControlPlane) program(name string, flags, replaced map[string][]string) *process.Process {
	flags = maps.Clone(flags)
	maps.Copy(flags, replaced)
	var args []string
	for _, flag := range slices.Sorted(maps.Keys(flags)) {
		for _, value := range flags[flag] {
			args = append(args, "--"+flag+"="+c.fill(value))
		}
	}
	return &process.Process{Path: filepath.Join(c.bin, name), Args: args, Log: c.file(name + ".log")}
}

func (c *ControlPlane) file(name string) string { return filepath.Join(c.dir, name) }

// fill puts the folder where a flag or a file names it.
func (c *ControlPlane) fill(text string) string { return strings.ReplaceAll(text, "{dir}", c.dir) }

// kill ends everything at once: what was stored is thrown away anyway.
func (c *ControlPlane) kill() {
	for _, p := range []*process.Process{c.manager, c.apiserver, c.etcd} {
		if p != nil {
			p.Kill()
		}
	}
}

// Dir is the folder of the options' files, the keys, the data and the logs.
func (c *ControlPlane) Dir() string { return c.dir }

// AuditLog is the file of the audit log, if there is an audit policy. It is
// rotated at 100 MB.
func (c *ControlPlane) AuditLog() string { return c.file("audit.log") }

// URL is the address of the API server. It stays the same when that is stopped
// and started again.
func (c *ControlPlane) URL() string { return "https://127.0.0.1:" + c.port }

// Config is that of a cluster administrator, of the group system:masters,
// without a limit of requests.
func (c *ControlPlane) Config() *rest.Config {
	return c.config(tlsFiles{Cert: c.file("admin.crt"), Key: c.file("admin.key")})
}

func (c *ControlPlane) config(files tlsFiles) *rest.Config {
	return &rest.Config{
		Host: c.URL(),
		TLSClientConfig: rest.TLSClientConfig{
			CAFile: c.file("ca.crt"), CertFile: files.Cert, KeyFile: files.Key,
		},
		QPS: -1,
	}
}
