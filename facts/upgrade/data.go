// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sconce.dev/sconce/object"
)

// The data is of a day, which stands in each file beside its sources.
//
//go:embed data/*.yaml
var files embed.FS

// read returns a file of the data. That each can be read is tested; a fault here
// is one of the program.
func read[T any](name string) *T {
	out := new(T)
	text, err := files.ReadFile("data/" + name + ".yaml")
	if err != nil {
		panic(err)
	}
	root, err := object.ParseYAML(object.Text{Bytes: text, Line: 1})
	if err != nil {
		panic(fmt.Sprintf("%s: %v", name, err))
	}
	if errs := object.Decode(root, out); len(errs) > 0 {
		panic(fmt.Sprintf("%s: line %d: %v", name, errs[0].Line, errs[0]))
	}
	return out
}

// day is a date of the data; the zero day is one that is not known.
type day struct{ at time.Time }

// UnmarshalText reads 2026-10-28, or the word unknown.
func (d *day) UnmarshalText(text []byte) (err error) {
	if string(text) != "unknown" {
		d.at, err = time.Parse(time.DateOnly, string(text))
	}
	return err
}

func (d day) String() string { return d.at.Format(time.DateOnly) }

func (d day) known() bool { return !d.at.IsZero() }

// after returns how many days after today the day is: a negative number once it
// has passed.
func (d day) after(today time.Time) int64 {
	y, m, n := today.Date()
	return int64(d.at.Sub(time.Date(y, m, n, 0, 0, 0, 0, time.UTC)).Hours() / 24)
}

// header is what each file begins with.
type header struct {
	Date    day      `json:"date"`
	Sources []string `json:"sources"`
}

// apisFile are the APIs of Kubernetes, and the files of its components.
type apisFile struct {
	header
	APIs  []groupVersion `json:"apis"`
	Files []groupVersion `json:"files"`
}

// customFile are APIs of add-ons that no supported release of them serves.
type customFile struct {
	header
	Products []struct {
		Product string         `json:"product"`
		APIs    []groupVersion `json:"apis"`
	} `json:"products"`
}

type groupVersion struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kinds   []api  `json:"kinds"`
}

// apiVersion returns the version as an object names it.
func (g groupVersion) apiVersion() string {
	if g.Group == "" {
		return g.Version
	}
	return g.Group + "/" + g.Version
}

// api is one kind in one version.
type api struct {
	Kind     string `json:"kind"`
	Resource string `json:"resource"`
	// Introduced, Deprecated and Removed are minors of Kubernetes.
	Introduced      minor  `json:"introduced"`
	Deprecated      minor  `json:"deprecated"`
	Removed         minor  `json:"removed"`
	Replacement     string `json:"replacement"`
	ReplacementKind string `json:"replacementKind"`
	Unchanged       bool   `json:"unchanged"`
	Note            string `json:"note"`
	Differs         string `json:"differs"`
	// RemovedIn is the release of the product in which a custom resource was
	// removed.
	RemovedIn string `json:"removedIn"`

	group, version, apiVersion string
	product                    string // of a custom resource
}

// served says whether a minor of Kubernetes serves the API.
func (a *api) served(m minor) bool {
	return a.product == "" && m >= a.Introduced && !a.gone(m)
}

// gone says whether a minor of Kubernetes does not serve the API any more.
func (a *api) gone(m minor) bool { return a.Removed > 0 && m >= a.Removed }

// releasesFile are the minors of Kubernetes.
type releasesFile struct {
	header
	Minors        []release      `json:"minors"`
	Distributions []distribution `json:"distributions"`
}

type release struct {
	Minor       minor `json:"minor"`
	Maintenance day   `json:"maintenance"`
	EndOfLife   day   `json:"endOfLife"`
	Patches     []day `json:"patches"`
}

// distribution is one whose support ends on days of its own.
type distribution struct {
	Name   string    `json:"name"`
	Key    string    `json:"key"`
	Minors []support `json:"minors"`
}

// support is until when a minor of Kubernetes gets fixes from somebody.
type support struct {
	Minor     minor `json:"minor"`
	EndOfLife day   `json:"endOfLife"`
	Extended  *day  `json:"extended"`
}

// flaw is a vulnerability that an upgrade fixes.
type flaw struct {
	ID         string   `json:"id"`
	Severity   string   `json:"severity"`
	Components []string `json:"components"` // of Kubernetes; none for a product
	OS         string   `json:"os"`
	Affected   []span   `json:"affected"`
	Condition  string   `json:"condition"`
}

// in returns the range that a version is in.
func (f *flaw) in(v version) (span, bool) {
	for _, s := range f.Affected {
		if s.holds(v) {
			return s, true
		}
	}
	return span{}, false
}

type kubernetesFile struct {
	header
	Flaws []flaw `json:"flaws"`
}

// product is something that is not Kubernetes, in series that end.
type product struct {
	Name         string   `json:"name"`
	Images       []string `json:"images"`
	Image        string   `json:"image"` // what a Node's osImage begins with
	AsKubernetes bool     `json:"asKubernetes"`
	Retired      day      `json:"retired"`
	Note         string   `json:"note"`
	Series       []series `json:"series"`
	Flaws        []flaw   `json:"flaws"`
}

// series is a line of releases: 1.7 of containerd, 22.04 of Ubuntu.
type series struct {
	Series    string `json:"series"`
	EndOfLife day    `json:"endOfLife"`
	Extended  day    `json:"extended"`
	Supported bool   `json:"supported"`
}

type nodesFile struct {
	header
	Runtimes []product `json:"runtimes"`
	Kernel   product   `json:"kernel"`
	Systems  []product `json:"systems"`
}

type addonsFile struct {
	header
	Addons []product `json:"addons"`
}

var (
	releases   = sync.OnceValue(func() *releasesFile { return read[releasesFile]("releases") })
	kubernetes = sync.OnceValue(func() *kubernetesFile { return read[kubernetesFile]("kubernetes") })
	nodes      = sync.OnceValue(func() *nodesFile { return read[nodesFile]("nodes") })
	addons     = sync.OnceValue(func() *addonsFile { return read[addonsFile]("addons") })
)

// release returns what is known of a minor.
func (f *releasesFile) release(m minor) *release {
	if i := slices.IndexFunc(f.Minors, func(r release) bool { return r.Minor == m }); i >= 0 {
		return &f.Minors[i]
	}
	return nil
}

// newest returns the newest minor that the data knows.
func (f *releasesFile) newest() minor { return f.Minors[0].Minor }

// find returns the series that a version belongs to: 22.04 for 22.04.4. It says
// ended for one that is older than every series that is known.
func (p *product) find(v version) (s *series, ended bool) {
	name := v.String()
	for {
		for i := range p.Series {
			if p.Series[i].Series == name {
				return &p.Series[i], false
			}
		}
		i := strings.LastIndexByte(name, '.')
		if i < 0 {
			break
		}
		name = name[:i]
	}
	if len(p.Series) == 0 {
		return nil, false
	}
	for i := range p.Series {
		if s, _, _ := parseVersion(p.Series[i].Series); v.compare(s) > 0 {
			return nil, false
		}
	}
	return nil, true
}
