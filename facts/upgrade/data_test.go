// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/control"
)

// TestHeaders holds that every file says of when it is and where it is from.
func TestHeaders(t *testing.T) {
	for name, h := range map[string]header{
		"apis": read[apisFile]("apis").header, "releases": releases().header, "kubernetes": kubernetes().header,
		"nodes": nodes().header, "addons": addons().header,
	} {
		if !h.Date.known() || h.Date.at.Before(time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("%s: date %v", name, h.Date)
		}
		if len(h.Sources) == 0 {
			t.Errorf("%s: no sources", name)
		}
	}
}

// TestAPITable holds that lives are in order, and that what took an API's place
// is served when it is gone.
func TestAPITable(t *testing.T) {
	newest := releases().newest()
	if int(newest) != control.Newest.Minor() {
		t.Errorf("the newest minor of the data is %s; the catalogue knows %s", newest, control.Newest)
	}
	file := read[apisFile]("apis")
	for i, list := range [][]groupVersion{file.APIs, file.Files} {
		for _, gv := range list {
			kinds := map[string]bool{}
			for _, a := range gv.Kinds {
				name := gv.apiVersion() + " " + a.Kind
				if kinds[a.Kind] {
					t.Errorf("%s stands twice", name)
				}
				kinds[a.Kind] = true
				if (a.Resource == "") != (i == 1) {
					t.Errorf("%s: resource %q", name, a.Resource)
				}
				if a.Deprecated > 0 && a.Deprecated < a.Introduced || a.Removed > 0 && a.Removed <= a.Introduced || a.Deprecated > 0 && a.Removed > 0 && a.Removed < a.Deprecated {
					t.Errorf("%s: introduced %s, deprecated %s, removed %s", name, a.Introduced, a.Deprecated, a.Removed)
				}
				checkReplacement(t, name, gv, a, newest)
			}
		}
	}
}

func checkReplacement(t *testing.T, name string, gv groupVersion, a api, newest minor) {
	t.Helper()
	if a.gone(newest) && a.Replacement == "" && a.Note == "" {
		t.Errorf("%s is gone, and neither a replacement nor a note says what to do", name)
	}
	if a.Replacement == "" {
		return
	}
	kind := a.Kind
	if a.ReplacementKind != "" {
		kind = a.ReplacementKind
	}
	r := apis().byType[typeKey{a.Replacement, kind}]
	if r == nil {
		t.Errorf("%s: replacement %s %s is not in the table", name, a.Replacement, kind)
		return
	}
	if r.gone(newest) {
		t.Errorf("%s: replacement %s %s is gone itself", name, a.Replacement, kind)
	}
	if gv.apiVersion() == a.Replacement {
		t.Errorf("%s replaces itself", name)
	}
}

// TestReleases holds that the minors are complete and in order.
func TestReleases(t *testing.T) {
	file := releases()
	for i, r := range file.Minors {
		if i > 0 && r.Minor != file.Minors[i-1].Minor-1 {
			t.Errorf("%s follows %s", r.Minor, file.Minors[i-1].Minor)
		}
		if !r.EndOfLife.known() || i > 0 && r.EndOfLife.at.After(file.Minors[i-1].EndOfLife.at) {
			t.Errorf("%s: end of life %s", r.Minor, r.EndOfLife)
		}
		if r.Maintenance.known() && r.Maintenance.at.After(r.EndOfLife.at) {
			t.Errorf("%s: maintenance begins after the end", r.Minor)
		}
		for k, p := range r.Patches {
			if !p.known() || k > 0 && p.at.Before(r.Patches[k-1].at) || p.at.After(file.Date.at) {
				t.Errorf("%s.%d: %s", r.Minor, k, p)
			}
		}
	}
	for _, d := range file.Distributions {
		for i, s := range d.Minors {
			if i > 0 && s.Minor != d.Minors[i-1].Minor-1 {
				t.Errorf("%s: %s follows %s", d.Name, s.Minor, d.Minors[i-1].Minor)
			}
			if s.Extended != nil && s.Extended.known() && !s.Extended.at.After(s.EndOfLife.at) {
				t.Errorf("%s %s: extended until %s, but supported until %s", d.Name, s.Minor, s.Extended, s.EndOfLife)
			}
		}
	}
}

// TestFlaws holds that flaws have identifiers, severities and ranges that make
// sense.
func TestFlaws(t *testing.T) {
	id := regexp.MustCompile(`^CVE-20[0-9]{2}-[0-9]{4,}$`)
	known := []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"}
	check := func(of string, flaws []flaw) {
		seen := map[string]bool{}
		for _, f := range flaws {
			name := of + " " + f.ID
			if !id.MatchString(f.ID) || seen[f.ID] {
				t.Errorf("%s: not an identifier, or twice", name)
			}
			seen[f.ID] = true
			if !slices.Contains([]string{"critical", "high", "medium", "low"}, f.Severity) {
				t.Errorf("%s: severity %q", name, f.Severity)
			}
			if len(f.Affected) == 0 {
				t.Errorf("%s affects nothing", name)
			}
			for i, s := range f.Affected {
				if s.to.len == 0 || s.from.compare(s.to) >= 0 || i > 0 && s.from.compare(f.Affected[i-1].to) < 0 {
					t.Errorf("%s: range %d", name, i)
				}
			}
			if (of == "Kubernetes") != (len(f.Components) > 0) {
				t.Errorf("%s: components %v", name, f.Components)
			}
			for _, c := range f.Components {
				if !slices.Contains(known, c) {
					t.Errorf("%s: component %q", name, c)
				}
			}
			if f.OS != "" && f.OS != "windows" && f.OS != "linux" {
				t.Errorf("%s: os %q", name, f.OS)
			}
			if strings.HasSuffix(f.Condition, ".") {
				t.Errorf("%s: the condition ends with a full stop", name)
			}
		}
	}
	check("Kubernetes", kubernetes().Flaws)
	check("the kernel", nodes().Kernel.Flaws)
	images := map[string]string{}
	for _, p := range slices.Concat(nodes().Runtimes, nodes().Systems, addons().Addons) {
		check(p.Name, p.Flaws)
		checkSeries(t, p)
		for _, image := range p.Images {
			if other, ok := images[image]; ok {
				t.Errorf("image %s is that of %s and of %s", image, p.Name, other)
			}
			images[image] = p.Name
		}
	}
}

func checkSeries(t *testing.T, p product) {
	t.Helper()
	if p.Retired.known() != (p.Note != "") {
		t.Errorf("%s: retired %v, note %q", p.Name, p.Retired.known(), p.Note)
	}
	seen := map[string]bool{}
	for _, s := range p.Series {
		if _, rest, ok := parseVersion(s.Series); !ok || rest != "" || seen[s.Series] {
			t.Errorf("%s: series %q", p.Name, s.Series)
		}
		seen[s.Series] = true
		if s.Supported == s.EndOfLife.known() {
			t.Errorf("%s %s: either supported, or with an end", p.Name, s.Series)
		}
		if s.Extended.known() && !s.Extended.at.After(s.EndOfLife.at) {
			t.Errorf("%s %s: extended until %s", p.Name, s.Series, s.Extended)
		}
	}
}

func (m minor) GoString() string { return fmt.Sprintf("%q", m.String()) }
