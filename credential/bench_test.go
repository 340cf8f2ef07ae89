// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkInText reads real manifests as if each were a file in a ConfigMap.
func BenchmarkInText(b *testing.B) {
	dir := os.Getenv("SCONCE_CORPUS")
	if dir == "" {
		b.Skip("SCONCE_CORPUS names a folder of manifests")
	}
	var texts []string
	size := 0
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(name)
		texts = append(texts, string(data))
		size += len(data)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	for name, find := range map[string]func(string) []Found{
		"known": Known,
		"named": func(s string) []Found { return InText(s, Config) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				for _, t := range texts {
					find(t)
				}
			}
		})
	}
}
