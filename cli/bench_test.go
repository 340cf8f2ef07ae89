// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"os"
	"testing"
)

// BenchmarkScan scans a folder of real manifests by every control, as a whole
// command: catalogue, engine, and a report that is thrown away.
func BenchmarkScan(b *testing.B) {
	dir := os.Getenv("SCONCE_CORPUS")
	if dir == "" {
		dir = "../../shared/corpus"
	}
	if _, err := os.Stat(dir); err != nil {
		b.Skipf("no corpus of manifests at %s; SCONCE_CORPUS names one", dir)
	}
	for _, format := range []string{"json", "table"} {
		b.Run(format, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if code := Main([]string{"scan", "-q", "-b", "hardened", "-o", format, dir}, Streams{Out: io.Discard, Err: io.Discard}); code != exitFindings {
					b.Fatalf("exit code %d", code)
				}
			}
		})
	}
}

// BenchmarkScanPod scans one pod, reading and compiling the catalogue each
// time: what a command costs besides the start of its process.
func BenchmarkScanPod(b *testing.B) {
	file := b.TempDir() + "/pod.yaml"
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: nginx}]}\n"
	if err := os.WriteFile(file, []byte(pod), 0o600); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if code := Main([]string{"scan", "-q", file}, Streams{Out: io.Discard, Err: io.Discard}); code != exitFindings {
			b.Fatalf("exit code %d", code)
		}
	}
}
