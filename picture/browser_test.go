// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestPage opens pages in Chromium and uses them as a person does: `make browser`
// fetches what drives it. It is skipped unless SCONCE_BROWSER is 1.
func TestPage(t *testing.T) {
	if os.Getenv("SCONCE_BROWSER") != "1" {
		t.Skip("SCONCE_BROWSER is not 1; make browser runs this")
	}
	dir := t.TempDir()
	for name, p := range map[string]*Picture{
		"small": small(), "hostile": hostilePicture(), "attack-200": attackExample(200), "attack-1000": attackExample(1000), "reach-1000": reachExample(1000),
	} {
		writePage(t, filepath.Join(dir, name+".html"), p)
		writeExpected(t, filepath.Join(dir, name+".json"), p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, "node", filepath.Join("testdata", "browser", "check.mjs"), dir)
	run.Env = append(os.Environ(), "SCONCE_SHOTS="+os.Getenv("SCONCE_SHOTS"))
	out, err := run.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("running the page in a browser: %v", err)
	}
}

func writePage(t *testing.T, file string, p *Picture) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := HTML(context.Background(), f, p); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// writeExpected writes what the page must find out: what is left of each path
// when the first change is made, the first two, and so on.
func writeExpected(t *testing.T, file string, p *Picture) {
	t.Helper()
	expected := struct {
		Nodes, Edges int
		States       [][]string
	}{len(p.Nodes), len(p.Edges), [][]string{}}
	gone := map[int]bool{}
	for _, c := range p.Changes {
		for _, e := range c.Edges {
			gone[e] = true
		}
		var states []string
		for _, path := range p.Paths {
			states = append(states, stateOf(p, path, gone))
		}
		expected.States = append(expected.States, states)
	}
	b, err := json.Marshal(expected)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func stateOf(p *Picture, path Path, gone map[int]bool) string {
	broken := false
	for _, s := range path.Steps {
		broken = broken || gone[s.Edge]
	}
	switch {
	case !broken:
		return ""
	case reaches(p, p.Edges[path.Steps[0].Edge].From, p.Edges[path.Steps[len(path.Steps)-1].Edge].To, gone):
		return "another way remains"
	}
	return "closed"
}

// reaches goes over all edges until nothing new is found.
func reaches(p *Picture, from, to string, gone map[int]bool) bool {
	found := map[string]bool{from: true}
	for more := true; more; {
		more = false
		for i, e := range p.Edges {
			if !gone[i] && found[e.From] && !found[e.To] {
				found[e.To], more = true, true
			}
		}
	}
	return found[to]
}
