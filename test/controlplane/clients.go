// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"sconce.dev/sconce/test/process"
)

// pollInterval is how often is looked whether something has come about.
const pollInterval = 50 * time.Millisecond

// Kubeconfig is a file for the administrator.
func (c *ControlPlane) Kubeconfig(testing.TB) string { return c.file(adminKubeconfig) }

// KubeconfigOf writes a file that says the same as a configuration, for a
// process to be started as its user.
func (c *ControlPlane) KubeconfigOf(t testing.TB, config *rest.Config) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, writeKubeconfig(config, file))
	return file
}

// ConfigFor is the configuration of a user who may do what is bound to the name
// or the groups, and what every user may.
func (c *ControlPlane) ConfigFor(t testing.TB, user string, groups ...string) *rest.Config {
	t.Helper()
	p := *c.pki
	p.dir = t.TempDir()
	files, err := p.client("client", user, groups...)
	must(t, err)
	return c.config(files)
}

// ConfigForServiceAccount is that of a ServiceAccount, with a token of an hour.
// The ServiceAccount is made if there is none.
func (c *ControlPlane) ConfigForServiceAccount(t testing.TB, namespace, name string) *rest.Config {
	t.Helper()
	accounts := c.Client(t).CoreV1().ServiceAccounts(namespace)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := accounts.Create(t.Context(), account, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		must(t, err)
	}
	request := &authenticationv1.TokenRequest{}
	token, err := accounts.CreateToken(t.Context(), name, request, metav1.CreateOptions{})
	must(t, err)
	config := c.config(tlsFiles{})
	config.BearerToken = token.Status.Token
	return config
}

// Client is a client of the administrator.
func (c *ControlPlane) Client(t testing.TB) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.Config())
	must(t, err)
	return client
}

// Namespace makes a namespace for one test, with a name of its own, ready for
// pods, and deletes it when the test ends.
func (c *ControlPlane) Namespace(t testing.TB) string {
	t.Helper()
	namespaces := c.Client(t).CoreV1().Namespaces()
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	created, err := namespaces.Create(t.Context(), object, metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = namespaces.Delete(ctx, created.Name, metav1.DeleteOptions{}) // the control plane may be gone
	})
	if c.manager.Runs() {
		must(t, c.waitServiceAccount(t.Context(), created.Name))
	}
	return created.Name
}

// Kubectl runs kubectl as the administrator, returns what it printed, and fails
// the test if it fails.
func (c *ControlPlane) Kubectl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.TryKubectl(t, "", args...)
	must(t, err)
	return out
}

// Apply applies manifests as the administrator.
func (c *ControlPlane) Apply(t testing.TB, manifests string) {
	t.Helper()
	_, err := c.TryKubectl(t, manifests, "apply", "--server-side", "-f", "-")
	must(t, err)
}

// TryKubectl runs kubectl as the administrator with an input. The error has
// what kubectl said.
func (c *ControlPlane) TryKubectl(t testing.TB, input string, args ...string) (string, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), c.Binary("kubectl"), append([]string{"--kubeconfig", c.file(adminKubeconfig)}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECACHEDIR="+c.file("kubectl-cache"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Binary is the path of one of the programs, such as kubectl.
func (c *ControlPlane) Binary(name string) string { return filepath.Join(c.bin, name) }

func (c *ControlPlane) waitReady(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		return err
	}
	var last error
	err = poll(ctx, func() (bool, error) {
		for _, p := range []*process.Process{c.etcd, c.apiserver} {
			if err := p.Ended(); err != nil {
				return false, err
			}
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, last = client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return last == nil, nil
	})
	if ctx.Err() != nil {
		return fmt.Errorf("waiting for the API server to be ready: %w; the last that it logged:\n%s", last, c.apiserver.Tail())
	}
	return err
}

// waitControllers waits until pods can be made: their ServiceAccount is the
// last of the controllers' work that they need.
func (c *ControlPlane) waitControllers(ctx context.Context) error {
	return c.waitServiceAccount(ctx, "default")
}

func (c *ControlPlane) waitServiceAccount(ctx context.Context, namespace string) error {
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = poll(ctx, func() (bool, error) {
		if err := c.manager.Ended(); err != nil {
			return false, err
		}
		_, err := client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
	if ctx.Err() != nil {
		return fmt.Errorf("waiting for the default ServiceAccount of %s: %w; the last that kube-controller-manager logged:\n%s",
			namespace, ctx.Err(), c.manager.Tail())
	}
	return err
}

// poll asks until it is done, an error came, or the time is over.
func poll(ctx context.Context, done func() (bool, error)) error {
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// writeKubeconfig writes a configuration as a file with one context.
func writeKubeconfig(config *rest.Config, file string) error {
	const name = "controlplane"
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server: config.Host, CertificateAuthority: config.CAFile,
		}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{name: {
			ClientCertificate: config.CertFile, ClientKey: config.KeyFile, Token: config.BearerToken,
		}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, file)
	if err != nil {
		return fmt.Errorf("writing the kubeconfig %s: %w", file, err)
	}
	return nil
}
