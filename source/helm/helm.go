// SPDX-License-Identifier: Apache-2.0

// Package helm renders a Helm chart and says for every rendered line which line
// of which template a person edits to change it.
//
// It uses Helm's own engine and chart loader as a library, never its actions:
// it asks no cluster, fetches nothing, resolves no name. It does not parse what
// comes out and judges nothing. It does not protect against a template that
// loops for ever or eats all memory: package render runs it in a process that
// can be ended.
package helm

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"

	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/engine"
)

// The defaults of Options: what `helm template` uses, and the Kubernetes
// version that Sconce judges for.
const (
	DefaultKubeVersion = "1.37"
	DefaultReleaseName = "release-name"
	DefaultNamespace   = "default"
)

// Options are what `helm template` takes as flags.
type Options struct {
	// ValueFiles are files of values, the last one wins. They are read as
	// given, relative to the working directory; never from an address.
	ValueFiles []string `json:"valueFiles,omitempty"`
	// Set, SetString, SetFile and SetJSON are as on Helm's command line.
	Set       []string `json:"set,omitempty"`
	SetString []string `json:"setString,omitempty"`
	SetFile   []string `json:"setFile,omitempty"`
	SetJSON   []string `json:"setJSON,omitempty"`
	// KubeVersion and APIVersions are what the chart sees as Capabilities;
	// APIVersions are added to the built-in ones.
	KubeVersion string   `json:"kubeVersion,omitempty"`
	APIVersions []string `json:"apiVersions,omitempty"`
	ReleaseName string   `json:"releaseName,omitempty"`
	Namespace   string   `json:"namespace,omitempty"`
	// Root is a folder above the chart: symbolic links may lead to anything
	// below it, and dependencies with a file:// repository below it are read in
	// place where charts/ lacks them. Empty: the chart's own folder, and
	// dependencies only from charts/.
	Root string `json:"root,omitempty"`
}

// Rendered is what a chart renders to. It is plain data.
type Rendered struct {
	// Chart is the chart's name; Library says that it is a library chart, which
	// renders to nothing by itself.
	Chart   string `json:"chart"`
	Library bool   `json:"library,omitempty"`
	// Docs are what each template rendered to, sorted by Template; those
	// without content, partials and NOTES.txt are left out.
	Docs []Doc `json:"docs,omitempty"`
	// Notes say what a reader must know: a schema that was not checked, say.
	Notes []string `json:"notes,omitempty"`
	// Files are the files of the chart that were loaded, subcharts included.
	Files []string `json:"files,omitempty"`
}

// Doc is what one template rendered to. It may hold several YAML documents.
type Doc struct {
	// Template is Helm's name for it: web/charts/db/templates/pod.yaml.
	Template string `json:"template"`
	// File is the file on disk; within an archive it is the archive's name, an
	// exclamation mark and the name within the chart: db-1.2.tgz!templates/pod.yaml.
	File string `json:"file"`
	// Text is the rendered text.
	Text []byte `json:"text"`
	// Verbatim says that Text is the file itself (crds/); Lines is then nil.
	Verbatim bool `json:"verbatim,omitempty"`
	// Lines say for each line of Text, from index 0, where it came from.
	Lines []Line `json:"lines,omitempty"`
	// Note says why lines are not known, if so.
	Note string `json:"note,omitempty"`
}

// Line is where a rendered line came from.
type Line struct {
	File string `json:"f"`
	// Line is the line in the template, from 1; 0 where it is not known.
	Line int `json:"l,omitempty"`
	// Values is the one path (.Values.image.tag) that the template reads there,
	// seen from the chart that File belongs to; empty if none or several.
	Values string `json:"v,omitempty"`
}

// Line returns where line n of the text, from 1, came from.
func (d *Doc) Line(n int) Line {
	switch {
	case d.Verbatim:
		return Line{File: d.File, Line: n}
	case n < 1 || n > len(d.Lines):
		return Line{File: d.File}
	}
	return d.Lines[n-1]
}

// Render renders the chart in a folder, or in an archive (.tgz). What is wrong
// with the chart comes back as an *Error.
func Render(chartDir string, opts Options) (out *Rendered, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, &Error{File: chartDir, Msg: fmt.Sprintf("helm's engine broke on this chart: %v", r)}
		}
	}()
	src, err := load(chartDir, opts.Root)
	if err != nil {
		return nil, err
	}
	out = &Rendered{Chart: src.chart.Name(), Files: src.list()}
	if src.chart.Metadata.Type == "library" {
		out.Library = true
		out.Notes = append(out.Notes, "a library chart: it renders to nothing by itself, only through the charts that depend on it")
		return out, nil
	}
	values, notes, err := prepare(src, opts)
	if err != nil {
		return nil, err
	}
	out.Notes = append(out.Notes, notes...)
	r := &renderer{source: src, values: values}
	r.index(src.chart)
	if out.Docs, err = r.docs(); err != nil {
		return nil, err
	}
	out.Docs = append(out.Docs, src.crds()...)
	slices.SortStableFunc(out.Docs, func(a, b Doc) int { return strings.Compare(a.Template, b.Template) })
	return out, nil
}

// prepare decides which subcharts take part and computes the values that
// templates see.
func prepare(src *source, opts Options) (common.Values, []string, error) {
	user, err := userValues(opts)
	if err != nil {
		return nil, nil, err
	}
	src.private = privates(user)
	c := src.chart
	if err := chartutil.ProcessDependencies(c, user); err != nil {
		return nil, nil, &Error{File: src.file("Chart.yaml"), Msg: src.redact("its dependencies: " + err.Error())}
	}
	notes, err := missing(src)
	if err != nil {
		return nil, nil, err
	}
	caps, err := capabilities(src, opts)
	if err != nil {
		return nil, nil, err
	}
	release := common.ReleaseOptions{Name: or(opts.ReleaseName, DefaultReleaseName), Namespace: or(opts.Namespace, DefaultNamespace), Revision: 1, IsInstall: true}
	values, err := commonutil.ToRenderValuesWithSchemaValidation(c, user, release, caps, true)
	if err != nil {
		return nil, nil, &Error{File: src.file("values.yaml"), Msg: src.redact(err.Error())}
	}
	coalesced, _ := values["Values"].(common.Values)
	skipped, err := validate(src, c, coalesced)
	if err != nil {
		return nil, nil, err
	}
	return values, append(notes, skipped...), nil
}

// missing finds dependencies that take part and are not there. Helm refuses
// them in the chart itself and passes over them in a subchart.
func missing(src *source) ([]string, error) {
	if names := lacking(src.chart); len(names) > 0 {
		return nil, &Error{File: src.file("Chart.yaml"), Line: src.lineOf("Chart.yaml", names[0]),
			Msg: fmt.Sprintf("the dependencies %s are not in charts/: run `helm dependency build %s`", strings.Join(names, ", "), src.dir)}
	}
	var notes []string
	for _, sub := range src.chart.Dependencies() {
		for c, stack := sub, []*chart.Chart(nil); c != nil; {
			if names := lacking(c); len(names) > 0 {
				notes = append(notes, fmt.Sprintf("subchart %s: the dependencies %s are not in its charts/ folder; as in Helm they are left out", c.ChartFullPath(), strings.Join(names, ", ")))
			}
			stack = append(stack, c.Dependencies()...)
			if c = nil; len(stack) > 0 {
				c, stack = stack[0], stack[1:]
			}
		}
	}
	return notes, nil
}

// lacking returns the dependencies of a chart, after the disabled ones were
// taken away, for which there is no chart.
func lacking(c *chart.Chart) []string {
	var names []string
	for _, dep := range c.Metadata.Dependencies {
		if !slices.ContainsFunc(c.Dependencies(), func(d *chart.Chart) bool { return d.Name() == dep.Name }) {
			names = append(names, dep.Name)
		}
	}
	return names
}

// aggregated are the versions that every API server serves beside those of
// Kubernetes' own types, which Helm knows by itself.
var aggregated = common.VersionSet{
	"apiregistration.k8s.io/v1", "apiregistration.k8s.io/v1/APIService",
	"apiextensions.k8s.io/v1", "apiextensions.k8s.io/v1/CustomResourceDefinition",
}

// capabilities returns what the chart sees of the cluster.
func capabilities(src *source, opts Options) (*common.Capabilities, error) {
	version := or(opts.KubeVersion, DefaultKubeVersion)
	kube, err := common.ParseKubeVersion(version)
	if err != nil {
		return nil, &Error{File: src.dir, Msg: fmt.Sprintf("Kubernetes version %q is none; want one like %s", version, DefaultKubeVersion)}
	}
	want := src.chart.Metadata.KubeVersion
	if want != "" && !chartutil.IsCompatibleRange(want, kube.String()) {
		return nil, &Error{File: src.file("Chart.yaml"), Line: src.lineOf("Chart.yaml", "kubeVersion"),
			Msg: fmt.Sprintf("the chart is for Kubernetes %s and was to be rendered for %s: ask for another version", want, kube.Version)}
	}
	caps := common.DefaultCapabilities.Copy()
	caps.KubeVersion = *kube
	caps.APIVersions = slices.Concat(caps.APIVersions, aggregated, opts.APIVersions)
	return caps, nil
}

// renderer renders one loaded chart, as it is and with marks.
type renderer struct {
	source *source
	values common.Values
	// files are the templates that take part, by Helm's name for them. A chart
	// that is used under two aliases has two names for one file.
	files map[string]*common.File
}

// index collects the templates of a chart and of those below it.
func (r *renderer) index(c *chart.Chart) {
	if r.files == nil {
		r.files = map[string]*common.File{}
	}
	for _, t := range c.Templates {
		if t != nil {
			r.files[path.Join(c.ChartFullPath(), t.Name)] = t
		}
	}
	for _, sub := range c.Dependencies() {
		r.index(sub)
	}
}

// docs renders the chart and maps its lines.
func (r *renderer) docs() ([]Doc, error) {
	plain, err := r.render()
	if err != nil {
		return nil, r.explain(err)
	}
	var docs []Doc
	for name, text := range plain {
		if strings.HasSuffix(name, "NOTES.txt") || strings.TrimSpace(text) == "" {
			continue
		}
		docs = append(docs, Doc{Template: name, File: r.source.fileOf(r.files[name]), Text: []byte(text)})
	}
	slices.SortFunc(docs, func(a, b Doc) int { return strings.Compare(a.Template, b.Template) })
	r.trace(docs)
	return docs, nil
}

// render runs Helm's engine over the templates as they are now. Templates may
// change the values that they are given, so each run has its own.
func (r *renderer) render() (map[string]string, error) {
	values := common.Values{}
	for k, v := range r.values {
		values[k] = clone(v)
	}
	return engine.Engine{}.RenderWithContext(context.Background(), r.source.chart, values)
}

// clone copies the maps and lists of a value.
func clone(v any) any {
	switch v := v.(type) {
	case common.Values:
		out := make(common.Values, len(v))
		for k, e := range v {
			out[k] = clone(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = clone(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = clone(e)
		}
		return out
	}
	return v
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
