// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"os"
	"path/filepath"
)

func (c *ControlPlane) etcdFlags(peerPort string) map[string][]string {
	client, peer := c.etcdURL(), "http://127.0.0.1:"+peerPort
	return map[string][]string{
		"data-dir":                    {c.file("etcd")},
		"listen-client-urls":          {client},
		"advertise-client-urls":       {client},
		"listen-peer-urls":            {peer},
		"initial-advertise-peer-urls": {peer},
		"initial-cluster":             {"default=" + peer},
		"unsafe-no-fsync":             {"true"},
		"log-level":                   {"warn"},
		"quota-backend-bytes":         {"4294967296"},
	}
}

func (c *ControlPlane) etcdURL() string { return "http://127.0.0.1:" + c.etcdPort }

func (c *ControlPlane) apiserverFlags(opts Options) map[string][]string {
	flags := map[string][]string{
		"etcd-servers": {c.etcdURL()},
		"bind-address": {"127.0.0.1"},
		"secure-port":  {c.port},
		// Nothing needs the Service of the API server, whose endpoint must not
		// be a loopback address.
		"advertise-address":        {"127.0.0.1"},
		"endpoint-reconciler-type": {"none"},

		"tls-cert-file":                    {c.file("apiserver.crt")},
		"tls-private-key-file":             {c.file("apiserver.key")},
		"client-ca-file":                   {c.file("ca.crt")},
		"service-cluster-ip-range":         {"10.96.0.0/16"},
		"service-account-issuer":           {"https://kubernetes.default.svc.cluster.local"},
		"service-account-key-file":         {c.file("sa.key")},
		"service-account-signing-key-file": {c.file("sa.key")},

		"authorization-mode":       {"Node,RBAC"},
		"enable-admission-plugins": {"NodeRestriction"},
		// Without it a privileged pod is invalid, and no policy is asked.
		"allow-privileged": {"true"},
		// Without it a stop waits a minute for every watch.
		"shutdown-watch-termination-grace-period": {"5s"},
	}
	if opts.AuditPolicy != "" {
		flags["audit-policy-file"] = []string{c.file(auditPolicyFile)}
		flags["audit-log-path"] = []string{c.AuditLog()}
	}
	if opts.ValidatingPolicies != "" || opts.MutatingPolicies != "" {
		flags["admission-control-config-file"] = []string{c.file(admissionFile)}
	}
	return flags
}

func (c *ControlPlane) managerFlags(port string) map[string][]string {
	return map[string][]string{
		"kubeconfig":                       {c.file(managerKubeconfig)},
		"authentication-kubeconfig":        {c.file(managerKubeconfig)},
		"authorization-kubeconfig":         {c.file(managerKubeconfig)},
		"use-service-account-credentials":  {"true"},
		"service-account-private-key-file": {c.file("sa.key")},
		"root-ca-file":                     {c.file("ca.crt")},
		"cluster-signing-cert-file":        {c.file("ca.crt")},
		"cluster-signing-key-file":         {c.file("ca.key")},
		"leader-elect":                     {"false"},
		"bind-address":                     {"127.0.0.1"},
		"secure-port":                      {port},
		"allocate-node-cidrs":              {"false"},
		"kube-api-qps":                     {"500"},
		"kube-api-burst":                   {"1000"},
		"controllers":                      {"*,-node-ipam-controller"},
	}
}

// The files that are written from the options, in the folder.
const (
	managerKubeconfig = "manager.kubeconfig"
	adminKubeconfig   = "admin.kubeconfig"
	auditPolicyFile   = "audit-policy.yaml"
	admissionFile     = "admission.yaml"
)

// admissionConfig has the API server read policies from two folders, one for
// each plugin: a plugin refuses the kinds of the other.
const admissionConfig = `apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: ValidatingAdmissionPolicy
  configuration:
    apiVersion: apiserver.config.k8s.io/v1
    kind: ValidatingAdmissionPolicyConfiguration
    staticManifestsDir: "{dir}/validating"
- name: MutatingAdmissionPolicy
  configuration:
    apiVersion: apiserver.config.k8s.io/v1
    kind: MutatingAdmissionPolicyConfiguration
    staticManifestsDir: "{dir}/mutating"
`

// write writes the files of the options and the kubeconfigs.
func (c *ControlPlane) write(opts Options) error {
	files := map[string]string{
		auditPolicyFile:            opts.AuditPolicy,
		admissionFile:              admissionConfig,
		"validating/policies.yaml": opts.ValidatingPolicies,
		"mutating/policies.yaml":   opts.MutatingPolicies,
	}
	for name, content := range opts.Files {
		files[name] = content
	}
	for name, content := range files {
		file := c.file(name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return fmt.Errorf("writing the file %q of the options: %w", name, err)
		}
		if err := os.WriteFile(file, []byte(c.fill(content)), 0o600); err != nil {
			return fmt.Errorf("writing the file %q of the options: %w", name, err)
		}
	}
	manager, err := c.pki.client("manager", "system:kube-controller-manager")
	if err != nil {
		return err
	}
	if err := writeKubeconfig(c.config(manager), c.file(managerKubeconfig)); err != nil {
		return err
	}
	if _, err := c.pki.client("admin", "admin", "system:masters"); err != nil {
		return err
	}
	return writeKubeconfig(c.Config(), c.file(adminKubeconfig))
}
