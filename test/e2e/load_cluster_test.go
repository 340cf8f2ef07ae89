// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"sconce.dev/sconce/test/controlplane"
)

// The cluster that is audited holds many small applications.
const (
	podsOfApp      = 25
	appsOfSpace    = 5
	clusterRoles   = 50
	populating     = 32 // requests at once
	templateOfPods = "5d8c9b7f4"
)

// applications are what a cluster is filled with.
type applications struct {
	client kubernetes.Interface
	pods   int
	shapes []corev1.PodSpec
}

func (a *applications) count() int  { return (a.pods + podsOfApp - 1) / podsOfApp }
func (a *applications) spaces() int { return (a.count() + appsOfSpace - 1) / appsOfSpace }

func spaceOf(app int) string       { return fmt.Sprintf("team-%d", app/appsOfSpace) }
func appName(app int) string       { return fmt.Sprintf("app-%d", app) }
func podName(app, n int) string    { return fmt.Sprintf("app-%d-%s-%05d", app, templateOfPods, n) }
func clusterRoleName(n int) string { return fmt.Sprintf("reader-%d", n) }
func inSpace(app int, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: spaceOf(app), Name: name, Labels: labelsOf(app)}
}

func labelsOf(app int) map[string]string {
	return map[string]string{"app": appName(app), "tier": "back", "app.kubernetes.io/managed-by": "Helm"}
}

func selects(app int) metav1.LabelSelector {
	return metav1.LabelSelector{MatchLabels: map[string]string{"app": appName(app)}}
}

// create fills the cluster. The controllers are stopped before they would make
// pods of their own: what they would make is made here, owners included.
func (a *applications) create(t *testing.T, c *controlplane.ControlPlane) {
	t.Helper()
	a.shapes = []corev1.PodSpec{podLike(t, "good", "").Spec, plainSpec(), podLike(t, "bad", "").Spec, plainSpec()}
	a.each(t, clusterRoles, func(ctx context.Context, n int) error {
		_, err := a.client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: clusterRoleName(n)}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}},
		}}, metav1.CreateOptions{})
		return err
	})
	a.each(t, a.spaces(), a.space)
	for n := range a.spaces() {
		waitForAccount(t, a.client, spaceOf(n*appsOfSpace))
	}
	c.StopControllers(t)
	owners := make([]metav1.OwnerReference, a.count())
	a.each(t, a.count(), func(ctx context.Context, app int) (err error) {
		if err := a.surroundings(ctx, app); err != nil {
			return err
		}
		owners[app], err = a.workload(ctx, app)
		return err
	})
	a.each(t, a.pods, func(ctx context.Context, n int) error {
		return a.pod(ctx, n/podsOfApp, n%podsOfApp, owners[n/podsOfApp])
	})
}

// each does something so many times, some at once.
func (a *applications) each(t *testing.T, n int, do func(ctx context.Context, i int) error) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(populating)
	for i := range n {
		g.Go(func() error { return do(ctx, i) })
	}
	must(t, g.Wait())
}

// space makes a namespace and what it has once.
func (a *applications) space(ctx context.Context, n int) error {
	name := spaceOf(n * appsOfSpace)
	labels := map[string]string{"team": name, "pod-security.kubernetes.io/enforce": "privileged"}
	if _, err := a.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if n%2 == 0 {
		return nil
	}
	_, err := a.client.NetworkingV1().NetworkPolicies(name).Create(ctx, &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "default-deny"},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}},
	}, metav1.CreateOptions{})
	return err
}

// surroundings makes what an application has beside its pods. Every second one
// has a ServiceAccount of its own.
func (a *applications) surroundings(ctx context.Context, app int) error {
	core, rbac, once := a.client.CoreV1(), a.client.RbacV1(), metav1.CreateOptions{}
	space, name := spaceOf(app), appName(app)
	account := accountOf(app)
	if account != "default" {
		if _, err := core.ServiceAccounts(space).Create(ctx, &corev1.ServiceAccount{ObjectMeta: inSpace(app, account)}, once); err != nil {
			return err
		}
	}
	if _, err := core.ConfigMaps(space).Create(ctx, &corev1.ConfigMap{ObjectMeta: inSpace(app, name), Data: map[string]string{
		"LOG_LEVEL": "info", "settings.yaml": "cache: {size: 128}\nserver: {port: 8080}\n",
	}}, once); err != nil {
		return err
	}
	if _, err := core.Services(space).Create(ctx, &corev1.Service{ObjectMeta: inSpace(app, name), Spec: corev1.ServiceSpec{
		Selector: selects(app).MatchLabels, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
	}}, once); err != nil {
		return err
	}
	if _, err := a.client.NetworkingV1().NetworkPolicies(space).Create(ctx, policyOf(app), once); err != nil {
		return err
	}
	if _, err := rbac.Roles(space).Create(ctx, &rbacv1.Role{ObjectMeta: inSpace(app, name), Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{name}, Verbs: []string{"get", "watch"}},
	}}, once); err != nil {
		return err
	}
	for binding, role := range map[string]rbacv1.RoleRef{
		name:             {APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: clusterRoleName(app % clusterRoles)},
		name + "-config": {APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
	} {
		if _, err := rbac.RoleBindings(space).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: inSpace(app, binding), RoleRef: role, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: space, Name: account}},
		}, once); err != nil {
			return err
		}
	}
	return nil
}

func accountOf(app int) string {
	if app%2 == 0 {
		return appName(app)
	}
	return "default"
}

func policyOf(app int) *networkingv1.NetworkPolicy {
	other := selects(app / appsOfSpace * appsOfSpace)
	return &networkingv1.NetworkPolicy{ObjectMeta: inSpace(app, appName(app)), Spec: networkingv1.NetworkPolicySpec{
		PodSelector: selects(app), PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{
			{PodSelector: &other},
			{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": spaceOf(0)}}},
		}}},
	}}
}

// workload makes a Deployment and its ReplicaSet, and returns how a pod says
// that it belongs to that.
func (a *applications) workload(ctx context.Context, app int) (metav1.OwnerReference, error) {
	apps, once := a.client.AppsV1(), metav1.CreateOptions{}
	replicas, selector := int32(podsOfApp), selects(app)
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labelsOf(app)}, Spec: a.spec(app)}
	d, err := apps.Deployments(spaceOf(app)).Create(ctx, &appsv1.Deployment{ObjectMeta: inSpace(app, appName(app)), Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &selector, Template: template,
	}}, once)
	if err != nil {
		return metav1.OwnerReference{}, err
	}
	of := inSpace(app, appName(app)+"-"+templateOfPods)
	of.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))}
	rs, err := apps.ReplicaSets(spaceOf(app)).Create(ctx, &appsv1.ReplicaSet{ObjectMeta: of, Spec: appsv1.ReplicaSetSpec{
		Replicas: &replicas, Selector: &selector, Template: template,
	}}, once)
	if err != nil {
		return metav1.OwnerReference{}, err
	}
	return *metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet")), nil
}

// spec is that of the pods of an application: they are of three shapes.
func (a *applications) spec(app int) corev1.PodSpec {
	out := *a.shapes[app%len(a.shapes)].DeepCopy()
	out.ServiceAccountName, out.DeprecatedServiceAccount = accountOf(app), ""
	out.Containers[0].Name = "app"
	out.Containers[0].Image = fmt.Sprintf("registry.example.com/app-%d:1.4.2", app)
	return out
}

// pod makes a pod that runs.
func (a *applications) pod(ctx context.Context, app, n int, owner metav1.OwnerReference) error {
	pods := a.client.CoreV1().Pods(spaceOf(app))
	of := inSpace(app, podName(app, n))
	of.Labels["pod-template-hash"] = templateOfPods
	of.GenerateName, of.OwnerReferences = appName(app)+"-"+templateOfPods+"-", []metav1.OwnerReference{owner}
	spec := a.spec(app)
	spec.NodeName = fmt.Sprintf("node-%d", (app*podsOfApp+n)%500)
	p, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: of, Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	p.Status = running(p, fmt.Sprintf("10.%d.%d.%d", app/250, app%250, n+1))
	_, err = pods.UpdateStatus(ctx, p, metav1.UpdateOptions{})
	return err
}

// running is what a kubelet would tell of a pod.
func running(p *corev1.Pod, ip string) corev1.PodStatus {
	now, ready := metav1.Now(), true
	out := corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, HostIP: "192.0.2.1", StartTime: &now, QOSClass: p.Status.QOSClass}
	for _, of := range []corev1.PodConditionType{"PodReadyToStartContainers", corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		out.Conditions = append(out.Conditions, corev1.PodCondition{Type: of, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		out.ContainerStatuses = append(out.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: c.Image + "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", Ready: true, Started: &ready,
			ContainerID: "containerd://0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
			State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	return out
}

// plainSpec is what many people write: some controls pass and some do not.
func plainSpec() corev1.PodSpec {
	unprivileged, no := true, false
	return corev1.PodSpec{
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &unprivileged},
		Volumes:         []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		Containers: []corev1.Container{{
			Name: "app", Image: "registry.example.com/app:1.4.2",
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			Env: []corev1.EnvVar{{Name: "LOG_LEVEL", Value: "info"}, {Name: "DB", ValueFrom: &corev1.EnvVarSource{
				SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "db"}, Key: "password"},
			}}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("50m"), "memory": resource.MustParse("64Mi")},
				Limits:   corev1.ResourceList{"memory": resource.MustParse("128Mi")},
			},
			ReadinessProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("http")}}},
			SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no},
			VolumeMounts:    []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
		}},
	}
}
