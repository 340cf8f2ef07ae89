// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/bundle"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/all"
)

// defaultConfig is the folder of a project's own controls, baselines and
// exceptions.
const defaultConfig = ".sconce"

const configUsage = "file or folder of your own controls, baselines and exceptions (default " + defaultConfig + " here or above, within the repository)"

const policiesUsage = "policies that you have (ValidatingAdmissionPolicy, Kyverno, Gatekeeper, Rego): a file, folder, path of a Git revision (main:policies), or bundle (oci://REGISTRY/NAME:TAG, FILE.tar); without --baseline only these are run"

// configFlags choose the rules.
type configFlags struct {
	trustFlags
	config      []string
	policies    []string
	baseline    string
	chosen      func() bool // the baseline was named
	controls    []string
	skip        []string
	kubeVersion string
	complete    bool
	partial     bool // what is judged is known not to be all, whatever the baseline says
	// sorting says that policies that are not valid are left out and told of by
	// the baseline; otherwise they are mistakes.
	sorting bool
	// narrow, if it is set, adjusts what is run once the library is known.
	narrow func(*baseline.Library, *baseline.Options) error
}

func (f *configFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.baseline, "baseline", "b", catalog.Default, "the baseline to hold everything against; sconce list baselines shows them")
	flags.StringArrayVarP(&f.config, "config", "c", nil, configUsage)
	flags.StringArrayVarP(&f.policies, "policies", "p", nil, policiesUsage)
	f.trustFlags.register(cmd)
	f.chosen = func() bool { return flags.Changed("baseline") }
	flags.StringSliceVar(&f.controls, "control", nil, "run only these controls, rules of policies, or whole policies")
	flags.StringSliceVar(&f.skip, "skip", nil, "leave these controls, rules of policies, or whole policies out")
	flags.StringVar(&f.kubeVersion, "kube-version", "", "version of the clusters that the objects are for, as in 1.36 or 1.36.2 (default: the baseline's)")
	flags.BoolVar(&f.complete, "complete", false, "what is scanned is all that there is in the cluster: what is not found does not exist")
	_ = cmd.RegisterFlagCompletionFunc("baseline", completeFrom((*baseline.Library).Baselines))
	_ = cmd.RegisterFlagCompletionFunc("control", completeFrom((*baseline.Library).Controls))
	_ = cmd.RegisterFlagCompletionFunc("skip", completeFrom((*baseline.Library).Controls))
}

// completeFrom completes a name that a library holds.
func completeFrom(names func(*baseline.Library) []string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		l, err := loadLibrary(nil, time.Time{})
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names(l), cobra.ShellCompDirectiveNoFileComp
	}
}

// loadLibrary reads the catalogue and the documents of the paths, and checks
// them as a whole.
func loadLibrary(paths []string, today time.Time) (*baseline.Library, error) {
	return loadPolicies(paths, nil, nil, today)
}

// loadPolicies is loadLibrary that also reads policies in other languages. Where v
// is not nil, it must accept the signatures of bundles.
func loadPolicies(paths, policies []string, v *bundle.Verifier, today time.Time) (*baseline.Library, error) {
	return readLibrary(newLibrary(), paths, policies, policies, v, today)
}

// newLibrary returns the catalogue, which takes policies in other languages, too.
func newLibrary() *baseline.Library {
	l := baseline.NewLibrary()
	catalog.Read(l)
	l.ReadPolicies(all.Reader{}, policy.Options{})
	return l
}

// sortPolicies is loadPolicies that leaves out policies that are not valid, where
// there are others: the library tells them.
func sortPolicies(paths, policies []string, v *bundle.Verifier, today time.Time) (*baseline.Library, error) {
	l := newLibrary()
	l.LeaveOutInvalidPolicies()
	l, err := readLibrary(l, paths, policies, policies, v, today)
	if err != nil {
		return nil, err
	}
	if invalid := l.InvalidPolicies(); len(invalid) > 0 && len(l.Policies())+len(l.Mutators()) == 0 {
		return nil, mistakesError([]error{invalid})
	}
	return l, nil
}

func mistakesError(mistakes []error) error {
	return fmt.Errorf("the configuration has mistakes; nothing was done:\n%w", errors.Join(mistakes...))
}

// readLibrary adds what the paths name to a library, and checks it. What stands
// where one of the others is, or is a revision of, is not read as configuration.
func readLibrary(l *baseline.Library, paths, policies, others []string, v *bundle.Verifier, today time.Time) (*baseline.Library, error) {
	if len(paths) == 0 {
		paths = projectConfig()
	}
	var mistakes []error
	others = places(others)
	for _, p := range paths {
		before := l.Size()
		found, err := readConfig(l, p, others)
		if err == nil && len(found)+len(others) == 0 && l.Size() == before && filepath.Base(p) != defaultConfig {
			err = fmt.Errorf("%s holds no control, baseline or exception of yours, and no policy", p)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		mistakes = append(mistakes, found...)
	}
	for _, p := range policies {
		found, err := readPolicies(l, p, v)
		if err != nil {
			return nil, fmt.Errorf("reading the policies: %w", err)
		}
		mistakes = append(mistakes, found...)
	}
	if err := l.Check(today); err != nil {
		mistakes = append(mistakes, err)
	}
	if len(mistakes) > 0 {
		return nil, mistakesError(mistakes)
	}
	return l, nil
}

// readConfig adds the files at a path, but for those at other places, and returns
// the mistakes in them. Like those of policies, they may have tests beside them.
func readConfig(l *baseline.Library, path string, others []string) (mistakes []error, err error) {
	files, err := below(path, path)
	if err != nil {
		return nil, err
	}
	root := canonical(path)
	for _, f := range files {
		at := filepath.Join(root, filepath.FromSlash(f.within))
		if slices.ContainsFunc(others, func(other string) bool { return atOrBelow(at, other) && atOrBelow(other, root) }) {
			continue
		}
		read := l.ReadConfigFile
		if f.within == "" {
			read = l.Read // it was named: everything in it is meant
		}
		if err := f.add(l, read); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	return mistakes, nil
}

// canonical is where a path leads: absolute, and without links where it is there.
func canonical(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return filepath.Clean(path)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real
	}
	return abs
}

// atOrBelow says whether a place is another, or below it.
func atOrBelow(at, other string) bool {
	rel, err := filepath.Rel(other, at)
	return err == nil && filepath.IsLocal(rel)
}

// places are those of policies that somebody named: of a path of a Git revision it
// is where that is in this folder.
func places(policies []string) []string {
	var out []string
	for _, p := range policies {
		if strings.HasPrefix(p, bundlePrefix) {
			continue
		}
		if _, err := os.Stat(p); err != nil {
			_, p, _ = strings.Cut(p, ":")
		}
		if p != "" {
			out = append(out, canonical(p))
		}
	}
	return out
}

// hidden says whether a file, or a folder that it is in, has a name that begins
// with a dot.
func hidden(path string) bool {
	return slices.ContainsFunc(strings.Split(filepath.ToSlash(path), "/"), func(part string) bool {
		return len(part) > 1 && part[0] == '.' && part != ".."
	})
}

// projectConfig returns the project's own configuration: .sconce in the working
// directory, or in the nearest folder above it that belongs to the same Git
// repository.
func projectConfig() []string {
	if isFolder(defaultConfig) {
		return []string{defaultConfig}
	}
	found := ""
	for dir := "."; ; dir = filepath.Join(dir, "..") {
		if config := filepath.Join(dir, defaultConfig); found == "" && isFolder(config) {
			found = config
		}
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil && found != "" {
			return []string{found}
		} else if abs, absErr := filepath.Abs(dir); err == nil || absErr != nil || filepath.Dir(abs) == abs {
			return nil // nothing in the repository, or no repository
		}
	}
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// walkConfig calls a function for each file at or below a path, links followed. It
// tells it of what is below the path and cannot be looked at.
func walkConfig(path string, seen map[string]bool, each func(name string, err error) error) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return each(path, nil)
	}
	resolved, entries := "", []os.DirEntry(nil)
	if err == nil {
		resolved, err = filepath.EvalSymlinks(path)
	}
	if err == nil && seen[resolved] {
		return nil
	}
	if err == nil {
		entries, err = os.ReadDir(path)
	}
	switch {
	case err != nil && len(seen) == 0:
		return err
	case err != nil:
		return each(path, err)
	}
	seen[resolved] = true
	for _, e := range entries {
		if err := walkConfig(filepath.Join(path, e.Name()), seen, each); err != nil {
			return err
		}
	}
	return nil
}

// load returns the baseline that the flags choose and an engine for it.
func (f *configFlags) load(today time.Time) (*baseline.Baseline, *engine.Engine, error) {
	v, err := f.verifier()
	if err != nil {
		return nil, nil, err
	}
	read := loadPolicies
	if f.sorting {
		read = sortPolicies
	}
	l, err := read(f.config, f.policies, v, today)
	if err != nil {
		return nil, nil, err
	}
	b, err := f.resolve(l, today)
	if invalid := l.InvalidPolicies(); err != nil && len(invalid) > 0 {
		err = fmt.Errorf("%w; what was left out of the policies, since it is not valid:\n%w", err, invalid)
	}
	if err != nil {
		return nil, nil, err
	}
	b.Complete = b.Complete && !f.partial
	return b, engine.New(b, l.Exceptions(today), today), nil
}

// resolve returns the baseline that the flags choose of a library.
func (f *configFlags) resolve(l *baseline.Library, today time.Time) (*baseline.Baseline, error) {
	opts := baseline.Options{Only: f.controls, Skip: f.skip, Complete: f.complete, Today: today, PoliciesOnly: len(f.policies) > 0 && !f.chosen()}
	if f.kubeVersion != "" {
		var err error
		if opts.KubernetesVersion, err = control.ParseVersion(f.kubeVersion); err != nil {
			return nil, fmt.Errorf("--kube-version: %w", err)
		}
	}
	if f.narrow != nil {
		if err := f.narrow(l, &opts); err != nil {
			return nil, err
		}
	}
	return l.Resolve(f.baseline, opts)
}
