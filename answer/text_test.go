// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"strings"
	"testing"

	"sconce.dev/sconce/report"
)

// TestTable holds that a table is as wide as the terminal at most, and that what
// strangers wrote does not get to it.
func TestTable(t *testing.T) {
	long := "ClusterRoleBinding argocd-application-controller-with-a-long-name → ClusterRole argocd-application-controller-with-a-long-name  deploy/base/rbac.yaml:12"
	for _, width := range []int{0, 72, 100, 200} {
		p := NewPage(width, false)
		p.table([]string{"SUBJECT", "WHERE", "BY"}, []row{
			{[]cell{text("ServiceAccount argocd/argocd-application-controller"), text("cluster-wide"), text(long, long)}, text(long)},
			{[]cell{text("Group \x1b[31mevil\u202e"), text("a", "b", "c"), text("")}, text("\x1b[31m")},
		})
		out := p.out.String()
		if strings.ContainsAny(out, "\x1b\u202e") {
			t.Errorf("width %d: the terminal would obey %q", width, out)
		}
		if joined := strings.Join(strings.Fields(out), ""); !strings.Contains(joined, "argocd-application-controller") {
			t.Errorf("width %d: something was left out:\n%s", width, out)
		}
		for line := range strings.Lines(out) {
			if n := report.Width(strings.TrimRight(line, "\n")); n > p.width {
				t.Errorf("width %d: a line takes %d columns: %s", p.width, n, line)
			}
		}
	}
}

// TestParted holds that a long word is broken behind a mark, if much of it stands
// before that, and that nothing is lost.
func TestParted(t *testing.T) {
	for _, c := range []struct{ word, want string }{
		{"short", "short"},
		{"shop/a-short-name", "shop/a- short-name"},
		{"a/averylongnamewithoutmarks", "a/averylongnamewithoutmarks"},
		{"Job shop/web-exporter-of-metrics now", "Job shop/web- exporter- of-metrics now"},
		{"größe/größe-und-länge", "größe/ größe- und-länge"},
	} {
		if got := parted(c.word, 11); got != c.want {
			t.Errorf("%q: got %q, want %q", c.word, got, c.want)
		}
	}
}

func TestColour(t *testing.T) {
	for _, on := range []bool{false, true} {
		p := NewPage(80, on)
		p.heading("what reaches what")
		p.line("%s", p.verdict(no))
		if got := strings.Contains(p.out.String(), "\x1b["); got != on {
			t.Errorf("coloured: %v, want %v", got, on)
		}
	}
}
