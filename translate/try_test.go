package translate

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/object"
	"sigs.k8s.io/yaml"
)

func readObjects(path string) []*object.Object {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out []*object.Object
	for text := range object.Split(data) {
		n, err := object.ParseYAML(text)
		if err != nil || n == nil {
			continue
		}
		list, _ := object.FromNode(n, &object.Origin{Source: path, Text: data, FirstLine: 1})
		out = append(out, list...)
	}
	return out
}

func TestTry(t *testing.T) {
	root := os.Getenv("TRY")
	if root == "" {
		t.Skip()
	}
	reasons := map[string]int{}
	ok, refused, differ, weak, undecided := 0, 0, 0, 0, 0
	filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && p != root {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".yaml") {
			return nil
		}
		docs := readObjects(p)
		docs = slices.DeleteFunc(docs, func(o *object.Object) bool { return !Handles(o.GroupKind()) })
		if len(docs) == 0 {
			return nil
		}
		var tests []*object.Object
		filepath.WalkDir(filepath.Join(filepath.Dir(p), ".kyverno-test"), func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(p, ".yaml") {
				for _, o := range readObjects(p) {
					if !strings.Contains(o.APIVersion, "kyverno.io") {
						tests = append(tests, o)
					}
				}
			}
			return nil
		})
		res := Translate(context.Background(), docs, Options{To: VAP, Tests: tests, Count: 300, Seed: 1, Timeout: 10 * time.Second})
		for _, r := range res.Rules {
			switch {
			case len(r.Refused) > 0:
				refused++
				reasons[r.Refused[0].Reason]++
				fmt.Printf("REFUSED %s %s: %s\n", p, r.Name, r.Refused[0].Reason)
			case r.Evidence != nil && r.Evidence.Difference != nil:
				differ++
				df := r.Evidence.Difference
				fmt.Printf("DIFFER %s %s: %s %v / %v\n", p, r.Name, df.Request.Operation, df.Original, df.Translation)
				if df.Request.Object != nil {
					b, _ := yaml.Marshal(df.Request.Object.Root.Any())
					fmt.Println(string(b))
				}
				if df.Request.Old != nil {
					b, _ := yaml.Marshal(df.Request.Old.Root.Any())
					fmt.Println("OLD", string(b))
				}
				if os.Getenv("SHOW") == "" {
					b, _ := yaml.Marshal(r.Documents[0]["spec"])
					fmt.Println(string(b))
				}
			default:
				ok++
				e := r.Evidence
				if e.Denied == 0 || e.Denied == e.About {
					weak++
				}
				if e.Undecided > e.Equal() {
					undecided++
				}
				fmt.Printf("OK %s %s: %d equal (%d tests) about %d denied %d undecided %d %v\n", p, r.Name, e.Equal(), e.Tests, e.About, e.Denied, e.Undecided, r.Notes)
				if os.Getenv("SHOW") == "all" {
					b, _ := yaml.Marshal(r.Documents[0]["spec"])
					fmt.Println(string(b))
				}
			}
		}
		return nil
	})
	fmt.Println("ok", ok, "weak", weak, "mostly undecided", undecided, "differ", differ, "refused", refused)
}
