// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/rego"
	"sconce.dev/sconce/source"
	"sconce.dev/sconce/source/helm"
	"sconce.dev/sconce/source/kustomize"
	"sconce.dev/sconce/source/render"
	"sconce.dev/sconce/verdict"
)

// sourceFlags say how sources are read and rendered.
type sourceFlags struct {
	revision   string
	helm       helm.Options
	enableHelm bool
	timeout    time.Duration
}

func (f *sourceFlags) register(cmd *cobra.Command) {
	f.registerWith(cmd, "f", "n")
}

// registerWith registers the flags, those for files of values and the namespace
// by these letters too, where they are free.
func (f *sourceFlags) registerWith(cmd *cobra.Command, values, namespace string) {
	flags := cmd.Flags()
	name := "namespace"
	if namespace == "" {
		name = "release-namespace"
	}
	flags.StringVar(&f.revision, "rev", "", "read the paths from this Git revision instead of the working tree")
	flags.StringArrayVarP(&f.helm.ValueFiles, "values", values, nil, "Helm: file of values, for every chart")
	flags.StringArrayVar(&f.helm.Set, "set", nil, "Helm: set a value, as in image.tag=1.2")
	flags.StringArrayVar(&f.helm.SetString, "set-string", nil, "Helm: set a value that is a string")
	flags.StringArrayVar(&f.helm.SetFile, "set-file", nil, "Helm: set a value from a file")
	flags.StringArrayVar(&f.helm.SetJSON, "set-json", nil, "Helm: set a value from JSON")
	flags.StringSliceVar(&f.helm.APIVersions, "api-versions", nil, "Helm: API versions that the chart finds in the cluster")
	flags.StringVar(&f.helm.ReleaseName, "release-name", helm.DefaultReleaseName, "Helm: name of the release")
	flags.StringVarP(&f.helm.Namespace, name, namespace, helm.DefaultNamespace, "Helm: namespace of the release")
	flags.BoolVar(&f.enableHelm, "enable-helm", false, "Kustomize: inflate the charts that overlays name, if they are vendored")
	flags.DurationVar(&f.timeout, "render-timeout", 30*time.Second, "give up on a chart or overlay that takes longer to render")
}

// discover finds what there is to read. The function that it returns releases
// what reading needed.
func (f *sourceFlags) discover(s Streams, targets []string, b *baseline.Baseline) (*source.Plan, func(), error) {
	opts, closePool, err := f.options(s, b)
	if err != nil {
		return nil, nil, err
	}
	discover := func() *source.Plan {
		plan := source.Discover(targets, opts)
		b.Notices = append(b.Notices, skippedFiles(plan.Skipped)...)
		return plan
	}
	if f.revision == "" {
		return discover(), closePool, nil
	}
	revision, err := source.Checkout(f.revision)
	if err != nil {
		closePool()
		return nil, nil, fmt.Errorf("--rev: %w", err)
	}
	opts.Base, opts.Missing = revision.Base, revision.Missing
	return discover(), func() { closePool(); revision.Remove() }, nil
}

// skippedFiles tells of files that policies could be about, and whose formats are
// not read.
func skippedFiles(names []string) []verdict.Notice {
	formats := map[string]int{}
	for _, name := range names {
		formats[rego.Unsupported(name)]++
	}
	if len(names) == 0 {
		return nil
	}
	var counts []string
	for _, format := range slices.Sorted(maps.Keys(formats)) {
		counts = append(counts, fmt.Sprintf("%s (%d)", format, formats[format]))
	}
	files := "1 file that policies may be about was"
	if len(names) > 1 {
		files = fmt.Sprintf("%d files that policies may be about were", len(names))
	}
	return []verdict.Notice{{
		Kind: verdict.UnsupportedFormat, Position: object.Position{File: slices.Min(names)},
		Message: files + " not judged, in formats that are not supported: " + strings.Join(counts, ", "),
	}}
}

// options says how sources are read. The function that it returns ends the
// processes that render.
func (f *sourceFlags) options(s Streams, b *baseline.Baseline) (source.Options, func(), error) {
	for _, name := range f.helm.ValueFiles {
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
			return source.Options{}, nil, fmt.Errorf("--values: %s is not a file that can be read", name)
		}
	}
	f.helm.KubeVersion = b.Version.String()
	exe, err := os.Executable()
	if err != nil {
		return source.Options{}, nil, fmt.Errorf("finding this program, which renders charts: %w", err)
	}
	pool := render.NewPool(exe, []string{render.WorkerArg}, 2, render.Limits{Timeout: f.timeout})
	opts := source.Options{Stdin: s.In, Renderer: pool, Helm: f.helm, Kustomize: kustomize.Options{EnableHelm: f.enableHelm}}
	if b.Documents() {
		opts.Documents = &source.Documents{Reads: rego.Reads, Parse: rego.Parse, Unsupported: rego.Unsupported}
	}
	return opts, pool.Close, nil
}
