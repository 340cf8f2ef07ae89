// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"sconce.dev/sconce/agent"
	"sconce.dev/sconce/api/v1alpha1"
)

// policyFolder is a source of policies that a test changes.
type policyFolder struct {
	mu    sync.Mutex
	files map[string]string
}

// set writes a file; it removes one that is empty.
func (f *policyFolder) set(name, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name] = text
	maps.DeleteFunc(f.files, func(_, text string) bool { return text == "" })
}

// source is the folder as an agent reads it.
func (f *policyFolder) source() agent.PolicySource {
	return agent.PolicySource{Name: "policies", Every: 200 * time.Millisecond, Read: func(context.Context) ([]agent.PolicyFile, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		var out []agent.PolicyFile
		for _, name := range slices.Sorted(maps.Keys(f.files)) {
			out = append(out, agent.PolicyFile{Name: "policies/" + name, Data: []byte(f.files[name])})
		}
		return out, nil
	}}
}

const kyvernoTeam = `
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: require-team}
spec:
  validationFailureAction: Enforce
  rules:
  - name: team
    match: {any: [{resources: {kinds: [ConfigMap]}}]}
    exclude: {any: [{resources: {names: [kube-root-ca.crt]}}]}
    validate:
      message: say which team owns it
      pattern: {metadata: {labels: {team: "?*"}}}
`

const kyvernoCEL = `
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: no-debug}
spec:
  validationActions: [Deny]
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]}
  validations: [{expression: "!has(object.data) || !('debug' in object.data)", message: debugging is to be off}]
`

const gatekeeperOwner = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: k8sowner}
spec:
  crd: {spec: {names: {kind: K8sOwner}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package k8sowner
      violation[{"msg": msg}] {
        not input.review.object.metadata.annotations.owner
        msg := "name who owns it"
      }
---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: K8sOwner
metadata: {name: services}
spec: {match: {kinds: [{apiGroups: [""], kinds: [Service]}]}}
`

// installedVAP is enforced by the API server, from now on.
const installedVAP = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: colour}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]}
  validations: [{expression: "has(object.metadata.labels) && has(object.metadata.labels.colour)", message: it has no colour}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: colour}
spec: {policyName: colour, validationActions: [Warn], matchResources: {namespaceSelector: {matchLabels: {colourful: "yes"}}}}
`

// policyCRD stands for a part of Kyverno that is installed.
const policyCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: clusterpolicies.kyverno.io}
spec:
  group: kyverno.io
  scope: Cluster
  names: {kind: ClusterPolicy, plural: clusterpolicies, singular: clusterpolicy}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// policyRights are those that the chart gives with agent.clusterPolicies.
const policyRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: sconce-policies}
rules:
- {apiGroups: [kyverno.io], resources: [clusterpolicies], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: sconce-policies}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: sconce-policies}
subjects: [{kind: ServiceAccount, name: sconce, namespace: sconce-system}]
`

func configMap(namespace, name, metadata, data string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: %s, name: %s, %s}\ndata: {%s}\n", namespace, name, metadata, data)
}

// clear returns an error while a report says that the object "old" fails a rule.
func (c *agentCluster) clear(t *testing.T, namespace, rule string) error {
	if err := c.reported(t, namespace, rule, "old"); err == nil {
		return fmt.Errorf("old is still reported for %s", rule)
	}
	return nil
}

// TestAgentPolicies holds what the agent does with policies of other languages:
// those of files are enforced and audited, those that are installed in the
// cluster are audited, and one that is broken hinders nothing.
func TestAgentPolicies(t *testing.T) {
	const team, debug, owner, colour = "kyverno.require-team.team", "kyverno.no-debug", "gatekeeper.k8sowner.services", "vap.colour"
	c := startAgentCluster(t)
	namespace := c.Namespace(t)
	c.Kubectl(t, "label", "namespace", namespace, "colourful=yes")
	c.Apply(t, policyRights)
	c.Apply(t, configMap(namespace, "old", "", "debug: 'on'"))
	c.Apply(t, fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: %s}\nspec: {ports: [{port: 80}]}\n", namespace))
	c.Apply(t, installedVAP)
	c.Apply(t, baselineOf("  controls:\n  - {name: privileged-container, action: deny}\n"))
	folder := &policyFolder{files: map[string]string{"team.yaml": kyvernoTeam, "debug.yaml": kyvernoCEL, "owner.yaml": gatekeeperOwner}}
	a := runAgent(t, c.config, freeAddress(t), "agent", func(o *agent.Options) {
		o.Policies, o.ClusterPolicies = []agent.PolicySource{folder.source()}, true
	})
	c.enforced(t)
	bare, whole := configMap(namespace, "new", "", ""), configMap(namespace, "new", "labels: {team: web, colour: red}", "")
	isDenied := func() bool { _, err := c.try(t, bare); return err != nil }
	poll(t, "the webhook denies by a policy", isDenied)

	t.Run("the webhook denies by policies of files", func(t *testing.T) {
		_, err := c.try(t, bare)
		denied(t, err, team, "say which team owns it")
		_, err = c.try(t, configMap(namespace, "new", "labels: {team: web}", "debug: 'on'"))
		denied(t, err, debug, "debugging is to be off")
		if err != nil && strings.Contains(err.Error(), team) {
			t.Errorf("what names its team is denied for it: %v", err)
		}
		_, err = c.try(t, fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: new, namespace: %s}\nspec: {ports: [{port: 80}]}\n", namespace))
		denied(t, err, owner, "name who owns it")
		if _, err := c.try(t, whole); err != nil {
			t.Error(err)
		}
		_, err = c.try(t, inNamespace(namespace, podNamed("bad", "", privilegedContext)))
		denied(t, err, "privileged-container")
	})
	t.Run("what the API server enforces, the webhook does not", func(t *testing.T) {
		if out, err := c.try(t, configMap(namespace, "new", "labels: {team: web}", "")); err != nil || strings.Contains(out, "sconce") {
			t.Errorf("got %q, %v", out, err)
		}
	})
	t.Run("all of them are audited", func(t *testing.T) {
		for rule, name := range map[string]string{team: "old", debug: "old", colour: "old", owner: "web"} {
			eventually(t, func() error { return c.reported(t, namespace, rule, name) })
		}
		if m := a.metric("sconce_audit_findings"); !strings.Contains(m, `control="`+team+`",outcome="fail"`) {
			t.Errorf("got the metric %q", m)
		}
	})
	t.Run("policies look other objects up", func(t *testing.T) { c.looksUp(t, folder, namespace) })
	t.Run("deletions and connections are denied", func(t *testing.T) { c.deniesDeletions(t, folder, namespace) })
	t.Run("an exception excuses", func(t *testing.T) { c.excusesPolicy(t, namespace, team, isDenied) })
	t.Run("a broken policy hinders nothing", func(t *testing.T) { c.brokenPolicy(t, a, folder, bare, team) })
	t.Run("kinds of policies come and go", func(t *testing.T) { c.installsKyverno(t, namespace) })
	t.Run("a policy that is removed clears what it found", func(t *testing.T) {
		folder.set("team.yaml", "")
		poll(t, "nothing is denied", func() bool { return !isDenied() })
		eventually(t, func() error { return c.clear(t, namespace, team) })
		eventually(t, func() error { return c.reported(t, namespace, debug, "old") })
		c.Kubectl(t, "delete", "validatingadmissionpolicybinding", "colour")
		eventually(t, func() error { return c.clear(t, namespace, colour) })
		if m := a.metric("sconce_admission_denials_total"); strings.Contains(m, team) {
			t.Errorf("it is still counted: %q", m)
		}
	})
	t.Run("the last good set holds them", func(t *testing.T) { c.keepsPolicies(t, a, namespace) })
}

// uniqueHost is a policy as those of the Gatekeeper library: it looks up a kind in
// every group.
const uniqueHost = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: uniquehost}
spec:
  crd: {spec: {names: {kind: UniqueHost}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package uniquehost
      same(a, b) { a.metadata.namespace == b.metadata.namespace; a.metadata.name == b.metadata.name }
      violation[{"msg": msg}] {
        host := input.review.object.spec.rules[_].host
        other := data.inventory.namespace[_][version]["Ingress"][_]
        re_match("^(extensions|networking.k8s.io)/.+$", version)
        other.spec.rules[_].host == host
        not same(other, input.review.object)
        msg := sprintf("the host %v is taken", [host])
      }
---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: UniqueHost
metadata: {name: hosts}
spec: {match: {kinds: [{apiGroups: [networking.k8s.io], kinds: [Ingress]}]}}
`

// manyServices is a policy that asks the API for the Services of a namespace.
const manyServices = `
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: one-service}
spec:
  rules:
  - name: count
    match: {any: [{resources: {kinds: [Ingress]}}]}
    context: [{name: services, apiCall: {urlPath: '/api/v1/namespaces/{{ request.namespace }}/services', jmesPath: 'items | length(@)'}}]
    validate: {message: there are too many services, deny: {conditions: {all: [{key: '{{ services }}', operator: GreaterThan, value: 1}]}}}
`

// looksUp holds that rules that look other objects up have verdicts, though Secrets
// are not read, and that these follow what is looked up.
func (c *agentCluster) looksUp(t *testing.T, folder *policyFolder, namespace string) {
	const unique, services = "gatekeeper.uniquehost.hosts", "kyverno.one-service.count"
	for name, host := range map[string]string{"first": "a.example.com", "second": "b.example.com"} {
		c.Apply(t, fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: %s, namespace: %s}\nspec: {rules: [{host: %s, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}\n", name, namespace, host))
	}
	folder.set("unique.yaml", uniqueHost)
	folder.set("services.yaml", manyServices)
	eventually(t, func() error {
		for _, rule := range []string{unique, services} {
			if got := c.resultsOf(t, namespace, rule); got != "" {
				return fmt.Errorf("%s: %s", rule, got)
			}
		}
		return nil
	})
	c.Kubectl(t, "patch", "-n", namespace, "ingress", "second", "--type=json", "-p", `[{"op":"replace","path":"/spec/rules/0/host","value":"a.example.com"}]`)
	c.Apply(t, fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: other, namespace: %s, annotations: {owner: me}}\nspec: {ports: [{port: 80}]}\n", namespace))
	for _, name := range []string{"first", "second"} {
		for _, rule := range []string{unique, services} {
			eventually(t, func() error { return c.reported(t, namespace, rule, name) })
		}
	}
	c.Kubectl(t, "delete", "-n", namespace, "service", "other")
	c.Kubectl(t, "delete", "-n", namespace, "ingress", "second")
	eventually(t, func() error {
		if got := c.resultsOf(t, namespace, unique) + c.resultsOf(t, namespace, services); got != "" {
			return errors.New(got)
		}
		return nil
	})
	folder.set("unique.yaml", "")
	folder.set("services.yaml", "")
}

// resultsOf lists what a report says of a rule.
func (c *agentCluster) resultsOf(t *testing.T, namespace, rule string) (out string) {
	t.Helper()
	u, err := c.report(t, namespace)
	if err != nil {
		return err.Error()
	}
	results, _, _ := unstructured.NestedSlice(u.Object, "results")
	for _, r := range results {
		if r := r.(map[string]any); r["rule"] == rule {
			out += fmt.Sprintf("%v: %v; ", r["result"], r["message"])
		}
	}
	return out
}

// keeps is a policy that keeps some ConfigMaps from being deleted, and people from
// shells: %s is its action.
const keeps = `
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: keeps}
spec:
  validationFailureAction: %s
  rules:
  - name: settings
    match: {any: [{resources: {kinds: [ConfigMap], names: [kept], operations: [DELETE]}}]}
    validate: {message: "{{ request.oldObject.metadata.name }} is kept", deny: {}}
  - name: shells
    match: {any: [{resources: {kinds: [Pod/exec]}}]}
    validate: {message: "no shells in {{ request.name }}", deny: {}}
  - name: scale
    match: {any: [{resources: {kinds: [Deployment/scale], operations: [UPDATE]}}]}
    validate: {message: "it is not scaled", pattern: {spec: {replicas: "<5"}}}
`

// deniesDeletions holds that policies about deletions, connections and subresources
// are asked, that audit alone denies none, and that controls deny no deletion.
func (c *agentCluster) deniesDeletions(t *testing.T, folder *policyFolder, namespace string) {
	c.Apply(t, configMap(namespace, "kept", "labels: {team: web, colour: red}", ""))
	c.Apply(t, configMap(namespace, "loose", "labels: {team: web, colour: red}", ""))
	c.Apply(t, inNamespace(namespace, podNamed("plain", "", "")))
	c.Apply(t, fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: %s}\nspec: {replicas: 0, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: app, image: 'i:1'}]}}}\n", namespace))
	remove := func() error {
		_, err := c.TryKubectl(t, "", "delete", "--dry-run=server", "-n", namespace, "configmap", "kept")
		return err
	}
	folder.set("keeps.yaml", fmt.Sprintf(keeps, "Enforce"))
	poll(t, "a deletion is denied", func() bool { return remove() != nil })
	denied(t, remove(), "kyverno.keeps.settings", "kept is kept")
	_, err := c.TryKubectl(t, "", "exec", "-n", namespace, "plain", "--", "sh")
	denied(t, err, "kyverno.keeps.shells", "no shells in plain")
	_, err = c.TryKubectl(t, "", "scale", "-n", namespace, "deployment", "web", "--replicas=7")
	denied(t, err, "kyverno.keeps.scale", "it is not scaled")
	if _, err := c.TryKubectl(t, "", "scale", "-n", namespace, "deployment", "web", "--replicas=1"); err != nil {
		t.Error(err)
	}
	if _, err := c.TryKubectl(t, "", "delete", "-n", namespace, "configmap", "loose"); err != nil {
		t.Error(err)
	}
	folder.set("keeps.yaml", fmt.Sprintf(keeps, "Audit"))
	poll(t, "audit denies no deletion", func() bool { return remove() == nil })
	if _, err := c.TryKubectl(t, "", "delete", "-n", namespace, "configmap", "kept"); err != nil {
		t.Error(err)
	}
	poll(t, "the webhook is asked about no deletions and connections", func() bool {
		operations, err := c.TryKubectl(t, "", "get", "validatingwebhookconfiguration", "sconce", "-o", "jsonpath={.webhooks[*].rules[*].operations}")
		return err == nil && !strings.Contains(operations, "DELETE") && !strings.Contains(operations, "CONNECT")
	})
	folder.set("keeps.yaml", "")
}

// excusesPolicy holds that an exception of Sconce excuses what a policy finds, at
// admission and in the audit, and stays valid when the policy goes.
func (c *agentCluster) excusesPolicy(t *testing.T, namespace, rule string, isDenied func() bool) {
	c.Apply(t, fmt.Sprintf("apiVersion: sconce.dev/v1alpha1\nkind: Exception\nmetadata: {name: team}\nspec: {controls: [%s, kyverno.no-such.rule], match: {namespaces: [%s], kinds: [ConfigMap]}, reason: it is a test, owner: tests, expires: \"2099-12-31\"}\n", rule, namespace))
	poll(t, "the exception excuses", func() bool { return !isDenied() })
	eventually(t, func() error { return c.clear(t, namespace, rule) })
	poll(t, "a rule that is not there is told of", func() bool {
		status, message := c.condition(t, "exceptions", "team", v1alpha1.Accepted)
		return status == metav1.ConditionTrue && strings.Contains(message, "kyverno.no-such.rule")
	})
	c.Kubectl(t, "delete", "exceptions.sconce.dev", "team")
	poll(t, "nothing excuses any more", isDenied)
}

// brokenPolicy holds that a policy that is not valid is told of, and is all that
// is not in force.
func (c *agentCluster) brokenPolicy(t *testing.T, a *replica, folder *policyFolder, bare, rule string) {
	folder.set("broken.yaml", strings.NewReplacer("no-debug", "broken", "'debug' in", "'debug' inn").Replace(kyvernoCEL))
	poll(t, "it is told of", func() bool {
		status, message := c.condition(t, "baselines", "cluster", v1alpha1.InForce)
		return status == metav1.ConditionTrue && strings.Contains(message, "left out: policies/broken.yaml:")
	})
	if m := a.metric("sconce_policies_left_out"); !strings.Contains(m, `from="files"} 1`) {
		t.Errorf("got the metric %q", m)
	}
	if log := a.log.String(); !strings.Contains(log, "policy is left out") || !strings.Contains(log, "policies/broken.yaml") {
		t.Error("the log does not tell of it")
	}
	_, err := c.try(t, bare)
	denied(t, err, rule)
	folder.set("broken.yaml", "")
	poll(t, "it is not told of any more", func() bool {
		_, message := c.condition(t, "baselines", "cluster", v1alpha1.InForce)
		return message != "" && !strings.Contains(message, "left out")
	})
}

// installsKyverno holds that policies are audited once their kind is served, are
// enforced by nobody but Kyverno, and are gone with their kind.
func (c *agentCluster) installsKyverno(t *testing.T, namespace string) {
	const rule = "kyverno.require-cost.team"
	c.Apply(t, policyCRD)
	c.Kubectl(t, "wait", "--for=condition=Established", "--timeout=30s", "crd", "clusterpolicies.kyverno.io")
	c.Apply(t, strings.NewReplacer("require-team", "require-cost", "{team:", "{cost:").Replace(kyvernoTeam))
	eventually(t, func() error { return c.reported(t, namespace, rule, "old") })
	if _, err := c.try(t, configMap(namespace, "new", "labels: {team: web, colour: red}", "")); err != nil {
		t.Errorf("a policy that Kyverno enforces is enforced twice: %v", err)
	}
	c.Kubectl(t, "delete", "crd", "clusterpolicies.kyverno.io")
	eventually(t, func() error { return c.clear(t, namespace, rule) })
}

// keepsPolicies holds that a replica that cannot read where policies come from
// enforces those of the last good set.
func (c *agentCluster) keepsPolicies(t *testing.T, a *replica, namespace string) {
	poll(t, "the set is kept", func() bool { return a.metric("sconce_last_good_kept") == "sconce_last_good_kept 1" })
	a.end(t)
	lost := agent.PolicySource{Name: "policies", Read: func(context.Context) ([]agent.PolicyFile, error) {
		return nil, errors.New("the registry does not answer")
	}}
	again := runAgent(t, c.config, freeAddress(t), "again", func(o *agent.Options) { o.Policies = []agent.PolicySource{lost} })
	poll(t, "the last good set is enforced", func() bool {
		_, err := c.try(t, configMap(namespace, "new", "", "debug: 'on'"))
		return err != nil && strings.Contains(err.Error(), "kyverno.no-debug")
	})
	if m := again.metric("sconce_policies_left_out"); !strings.Contains(m, `from="files"} 1`) {
		t.Errorf("got the metric %q", m)
	}
}
