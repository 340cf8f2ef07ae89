// SPDX-License-Identifier: Apache-2.0

// Objects writes many Kubernetes objects into a folder, to measure with: of
// every 10 objects 3 are workloads, 2 are of RBAC, and the rest are what
// surrounds them. The same number gives the same objects.
package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

const perFile = 500

func main() {
	if len(os.Args) != 3 {
		fail("usage: objects N FOLDER")
	}
	n, err := strconv.Atoi(os.Args[1])
	if err != nil || n < 1 {
		fail("%q is not a number of objects", os.Args[1])
	}
	for start := 0; start < n; start += perFile {
		if err := write(filepath.Join(os.Args[2], fmt.Sprintf("objects-%06d.yaml", start)), start, min(n, start+perFile)); err != nil {
			fail("%v", err)
		}
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "objects: "+format+"\n", args...)
	os.Exit(2)
}

func write(name string, from, to int) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	w := bufio.NewWriter(f)
	for i := from; i < to; i++ {
		if _, err := fmt.Fprintf(w, "---\n"+templates[i%len(templates)], i/10, i/10%500); err != nil {
			return err
		}
	}
	return w.Flush()
}

// templates take the number of the application, and of its namespace: 20
// applications share one.
var templates = [...]string{workload("Deployment"), workload("StatefulSet"), workload("DaemonSet"), role, binding, `apiVersion: v1
kind: Service
metadata: {name: app-%[1]d, namespace: team-%[2]d}
spec:
  selector: {app: app-%[1]d}
  ports: [{name: http, port: 80, targetPort: http}]
`, `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: app-%[1]d, namespace: team-%[2]d}
spec:
  podSelector: {matchLabels: {app: app-%[1]d}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchLabels: {tier: front}}}]
    ports: [{port: 8080, protocol: TCP}]
  egress:
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
    ports: [{port: 53, protocol: UDP}]
`, `apiVersion: v1
kind: ConfigMap
metadata: {name: app-%[1]d, namespace: team-%[2]d}
data:
  LOG_LEVEL: info
  DATABASE_HOST: db.team-%[2]d.svc
  settings.yaml: |
    cache: {size: 128, ttl: 30s}
    listen: 0.0.0.0:8080
`, `apiVersion: v1
kind: ServiceAccount
metadata: {name: app-%[1]d, namespace: team-%[2]d}
automountServiceAccountToken: false
`, `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: app-%[1]d, namespace: team-%[2]d}
spec:
  tls: [{hosts: [app-%[1]d.example.com], secretName: app-%[1]d-tls}]
  rules:
  - host: app-%[1]d.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app-%[1]d, port: {name: http}}}}]}
`}

func workload(kind string) string {
	return `apiVersion: apps/v1
kind: ` + kind + `
metadata:
  name: app-%[1]d
  namespace: team-%[2]d
  labels: {app: app-%[1]d, app.kubernetes.io/managed-by: Helm}
spec:
  selector: {matchLabels: {app: app-%[1]d}}
  template:
    metadata:
      labels: {app: app-%[1]d, tier: back}
    spec:
      serviceAccountName: app-%[1]d
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: app
        image: registry.example.com/team-%[2]d/app:1.4.%[1]d
        ports: [{name: http, containerPort: 8080}]
        env:
        - {name: LOG_LEVEL, value: info}
        - name: DATABASE_PASSWORD
          valueFrom: {secretKeyRef: {name: app-%[1]d, key: password}}
        resources:
          requests: {cpu: 50m, memory: 64Mi}
          limits: {memory: 128Mi}
        readinessProbe: {httpGet: {path: /ready, port: http}}
        livenessProbe: {httpGet: {path: /live, port: http}}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
        volumeMounts:
        - {name: tmp, mountPath: /tmp}
      volumes:
      - {name: tmp, emptyDir: {}}
`
}

const role = `apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: app-%[1]d, namespace: team-%[2]d}
rules:
- {apiGroups: [""], resources: [configmaps], verbs: [get, list, watch]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update], resourceNames: [app-%[1]d]}
`

const binding = `apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: app-%[1]d, namespace: team-%[2]d}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: app-%[1]d}
subjects:
- {kind: ServiceAccount, name: app-%[1]d, namespace: team-%[2]d}
`
