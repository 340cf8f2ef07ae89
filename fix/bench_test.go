// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"fmt"
	"testing"

	"sconce.dev/sconce/object"
)

// deployment returns a Deployment of about 200 lines.
func deployment() []byte {
	var b bytes.Buffer
	b.WriteString("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: shop\n  labels: {app: shop}\nspec:\n  template:\n    spec:\n      containers:\n")
	for i := range 12 {
		fmt.Fprintf(&b, `      # container %[1]d
      - name: c%[1]d
        image: registry.example.com/team/c%[1]d:1.2.%[1]d
        args: ["--port", "80%[1]d"]
        env:
        - name: A
          value: "x"
        - name: B
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        resources:
          limits: {memory: 1Gi}
        securityContext:
          privileged: true # why

`, i)
	}
	b.WriteString("      restartPolicy: Always\n")
	return b.Bytes()
}

func BenchmarkApply(b *testing.B) {
	text := object.Text{Bytes: deployment(), Line: 1}
	for _, c := range []struct{ name, edits string }{
		{"one", `set spec.template.spec.containers[c6].securityContext.privileged=false`},
		{"three", `set spec.template.spec.containers[c6].securityContext.privileged=false; ` +
			`add spec.template.spec.containers[c6].securityContext.capabilities.drop="ALL"; ` +
			`set spec.template.spec.securityContext.seccompProfile.type="RuntimeDefault"`},
	} {
		b.Run(c.name, func(b *testing.B) {
			e := edits(b, c.edits)
			b.SetBytes(int64(len(text.Bytes)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Apply(text, e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
