// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policytest/kyvernotest"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/translate"
	"sconce.dev/sconce/verdict"
)

// convertPoliciesFlags are the flags of convert policies.
type convertPoliciesFlags struct {
	to, output string
	from       []string
	objects    int
	seed       uint64
	timeout    time.Duration
	keep       bool
	force      bool
}

func newConvertPolicies(s Streams) *cobra.Command {
	var f convertPoliciesFlags
	cmd := &cobra.Command{
		Use:   "policies PATH...",
		Short: "Translate policies into another language, and prove the translation",
		Long: `Policies translates Kyverno's ClusterPolicies and Policies into
ValidatingAdmissionPolicies, which the API server enforces by itself, and other
policies into other languages, rule by rule.

Each translation is proven: the original and the translation judge the same
objects, which are yours (-f), the resources of the tests that stand beside the
policy, and objects that are made of these and of what the policy mentions. A rule
of which one says something else is not written, and the smallest object on which
they differ is shown. What cannot be translated is refused with the reason.

The policies go to standard output, what became of each rule to standard error.`,
		Example: `  sconce convert policies policies/ -f . -o translated/
  sconce convert policies require-labels.yaml | kubectl apply --server-side -f -
  sconce convert policies mine.yaml --to control`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), s, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", string(translate.VAP), "the language to translate to: vap, control or kyverno")
	flags.StringArrayVarP(&f.from, "filename", "f", nil, "file, folder, chart or overlay of objects to prove the translation on; may be given again")
	flags.StringVarP(&f.output, "output", "o", "", "write to this file, or to a file for each rule in this folder")
	flags.IntVar(&f.objects, "objects", 1000, "on how many objects to prove each rule")
	flags.Uint64Var(&f.seed, "seed", 1, "where the generation of objects starts: the same seed makes the same objects")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long the proof of one rule may take")
	flags.BoolVar(&f.keep, "keep-different", false, "write rules of which the translation differs, too")
	flags.BoolVar(&f.force, "force", false, "with -o, overwrite files that this command has not written")
	return cmd
}

// run translates the policies of some files.
func (f *convertPoliciesFlags) run(ctx context.Context, s Streams, args []string) error {
	if !slices.Contains(translate.Targets(), translate.Target(f.to)) {
		return fmt.Errorf("convert policies: --to %s: the languages are vap, control and kyverno", f.to)
	}
	docs, problems, err := readObjects(ctx, s, args, translate.Handles)
	if err != nil {
		return fmt.Errorf("convert policies: %w", err)
	}
	docs = slices.DeleteFunc(docs, func(o *object.Object) bool { return inTests(o, args) })
	tellProblems(s, problems)
	if len(docs) == 0 {
		return fmt.Errorf("convert policies: no policy that can be translated in %s", strings.Join(args, ", "))
	}
	opts := translate.Options{To: translate.Target(f.to), Count: f.objects, Seed: f.seed, Timeout: f.timeout}
	if len(f.from) > 0 {
		own, unread, err := readObjects(ctx, s, f.from, func(gk object.GroupKind) bool { return !translate.Handles(gk) })
		if err != nil {
			return fmt.Errorf("convert policies: -f: %w", err)
		}
		tellProblems(s, unread)
		opts.Objects = own
	}
	result := &translate.Result{}
	for _, list := range byFolder(docs) {
		opts.Tests = testResources(ctx, s, list)
		one := translate.Translate(ctx, list, opts)
		result.Rules, result.Problems = append(result.Rules, one.Rules...), append(result.Problems, one.Problems...)
	}
	result.Distinct()
	if err := f.write(s, result); err != nil {
		return fmt.Errorf("convert policies: %w", err)
	}
	return f.tell(s, result, len(problems) > 0)
}

// readObjects reads the objects of some kinds.
func readObjects(ctx context.Context, s Streams, paths []string, wanted func(object.GroupKind) bool) ([]*object.Object, []verdict.Problem, error) {
	for _, p := range paths {
		if _, err := os.Stat(p); err != nil {
			return nil, nil, err
		}
	}
	plan, release, err := (&sourceFlags{timeout: 30 * time.Second}).discover(s, paths, &baseline.Baseline{})
	if err != nil {
		return nil, nil, err
	}
	defer release()
	var out []*object.Object
	problems := plan.Problems
	for _, u := range plan.Units {
		u.Read(ctx, snapshot.Sink{
			Object: func(o *object.Object) {
				if wanted(o.GroupKind()) {
					out = append(out, o)
				}
			},
			Problem: func(p verdict.Problem) { problems = append(problems, p) },
		})
	}
	return out, problems, ctx.Err()
}

// byFolder groups policies by the folders that they stand in. Templates of
// Gatekeeper go with the constraints of every folder, exceptions with its policies.
func byFolder(docs []*object.Object) [][]*object.Object {
	var out [][]*object.Object
	var everywhere []*object.Object
	folders := map[string]int{}
	for _, o := range docs {
		if o.Kind == "ConstraintTemplate" || o.Kind == "PolicyException" {
			everywhere = append(everywhere, o)
			continue
		}
		folder := filepath.Dir(o.Origin.Source)
		i, ok := folders[folder]
		if !ok {
			i = len(out)
			folders[folder] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], o)
	}
	for i := range out {
		out[i] = append(out[i], everywhere...)
	}
	return out
}

// testFolders are where tests of policies stand beside them.
var testFolders = []string{".kyverno-test", ".chainsaw-test", "samples"}

// inTests says whether a document stands in a folder of tests that nobody named.
func inTests(o *object.Object, args []string) bool {
	for _, name := range testFolders[:2] {
		part := string(filepath.Separator) + name + string(filepath.Separator)
		if strings.Contains(o.Origin.Source, part) && !slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, name) }) {
			return true
		}
	}
	return false
}

// testResources returns the objects of the tests beside some policies of one
// folder.
func testResources(ctx context.Context, s Streams, docs []*object.Object) []*object.Object {
	folder := filepath.Dir(docs[0].Origin.Source)
	var files []string
	for _, name := range testFolders {
		files = append(files, yamlFiles(filepath.Join(folder, name))...)
	}
	_, err := os.Stat(filepath.Join(folder, kyvernotest.FileName))
	if err == nil || strings.HasSuffix(docs[0].Group(), "gatekeeper.sh") {
		files = append(files, yamlFiles(folder)...)
	}
	slices.Sort(files)
	files = slices.Compact(files)
	if len(files) == 0 {
		return nil
	}
	out, _, err := readObjects(ctx, s, files, func(gk object.GroupKind) bool {
		return !translate.Handles(gk) && !strings.Contains(gk.Group, "kyverno.io") && !strings.Contains(gk.Group, "gatekeeper.sh")
	})
	if err != nil {
		return nil // what cannot be read proves nothing
	}
	return out
}

// yamlFiles returns the files of YAML below a folder.
func yamlFiles(folder string) []string {
	var out []string
	_ = filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")) {
			out = append(out, name)
		}
		return nil
	})
	return out
}

// write writes the translations.
func (f *convertPoliciesFlags) write(s Streams, result *translate.Result) error {
	files, err := f.files(result)
	if err != nil {
		return err
	}
	if f.output == "" {
		for _, file := range files {
			if _, err := s.Out.Write(file.text); err != nil {
				return err
			}
		}
		return nil
	}
	for _, file := range files {
		if err := f.mayWrite(file.name); err != nil {
			return err
		}
	}
	for _, file := range files {
		if err := os.MkdirAll(filepath.Dir(file.name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file.name, file.text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// outputFile is a file of translations.
type outputFile struct {
	name string
	text []byte
}

// files returns what is written: a file for each rule in a folder, or one for all.
func (f *convertPoliciesFlags) files(result *translate.Result) ([]outputFile, error) {
	info, err := os.Stat(f.output)
	folder := err == nil && info.IsDir() || strings.HasSuffix(f.output, string(filepath.Separator))
	var out []outputFile
	var all bytes.Buffer
	for _, r := range result.Rules {
		if len(r.Documents) == 0 || !r.Proven() && !f.keep {
			continue
		}
		text, err := documentsText(r.Documents)
		if err != nil {
			return nil, err
		}
		if folder {
			out = append(out, outputFile{filepath.Join(f.output, translate.NameOf(r.Documents[0])+".yaml"), text})
			continue
		}
		all.Write(text)
	}
	if !folder {
		out = []outputFile{{f.output, all.Bytes()}}
	}
	return out, nil
}

// mayWrite refuses to overwrite a file that holds something else than translations.
func (f *convertPoliciesFlags) mayWrite(name string) error {
	if f.force {
		return nil
	}
	old, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(old) > 0 && !bytes.Contains(old, []byte(translate.Mark+": ")):
		return fmt.Errorf("%s is there already, and holds no translation: nothing was written; name another file or folder with -o, or overwrite it with --force", name)
	}
	return nil
}

// documentsText writes documents as YAML.
func documentsText(docs []translate.Document) ([]byte, error) {
	var b bytes.Buffer
	for _, d := range docs {
		text, err := yaml.Marshal(d)
		if err != nil {
			return nil, fmt.Errorf("writing %s: %w", translate.NameOf(d), err)
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	return b.Bytes(), nil
}

// tell says what became of each rule, and returns the exit code.
func (f *convertPoliciesFlags) tell(s Streams, result *translate.Result, broken bool) error {
	for _, p := range result.Problems {
		_, _ = fmt.Fprintf(s.Err, "%s: %s: %s\n", linePlace(p.Position), p.Object, verdict.Redact(p.Message))
	}
	w := tabwriter.NewWriter(s.Err, 0, 0, 2, ' ', 0)
	counts := map[translate.Answer]int{}
	for _, r := range result.Rules {
		counts[r.Answer()]++
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", r.Answer(), ruleTitle(r), why(r))
	}
	_ = w.Flush()
	for _, r := range result.Rules {
		for _, n := range r.Notes {
			_, _ = fmt.Fprintf(s.Err, "note: %s: %s\n", ruleTitle(r), n)
		}
		if r.Evidence != nil && r.Evidence.Difference != nil {
			tellDifference(s.Err, r)
		}
	}
	untested := ""
	if n := counts[translate.Untested]; n > 0 {
		untested = fmt.Sprintf("%d translated and untested, ", n)
	}
	_, _ = fmt.Fprintf(s.Err, "%d translated and equal, %s%d different, %d refused\n", counts[translate.Equal], untested, counts[translate.Differs], counts[translate.Refused])
	switch {
	case broken || len(result.Problems) > 0:
		return exitCode(exitError)
	case counts[translate.Differs]+counts[translate.Refused]+counts[translate.Untested] > 0:
		return exitCode(exitFindings)
	}
	return nil
}

func ruleTitle(r *translate.Rule) string {
	if r.Name == "" {
		return r.Policy.Name
	}
	return r.Policy.Name + "/" + r.Name
}

// why says what the answer about a rule rests on.
func why(r *translate.Rule) string {
	switch r.Answer() {
	case translate.Refused:
		var out []string
		for _, x := range r.Refused {
			out = append(out, linePlace(x.Position)+": "+verdict.Redact(strings.ReplaceAll(x.Reason, "\n", " ")))
		}
		return strings.Join(out, "; ")
	case translate.Equal, translate.Untested:
		if weak := r.Evidence.Weak(); weak != "" {
			return r.Evidence.String() + "; " + weak
		}
	}
	return r.Evidence.String()
}

func linePlace(p object.Position) string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// tellDifference shows the smallest object on which a translation differs.
func tellDifference(w io.Writer, r *translate.Rule) {
	d := r.Evidence.Difference
	_, _ = fmt.Fprintf(w, "\n%s differs on this object (%s):\n", ruleTitle(r), d.Request.Operation)
	for _, o := range []struct {
		what string
		o    *object.Object
	}{{"", d.Request.Object}, {"it was before:\n", d.Request.Old}} {
		if o.o == nil {
			continue
		}
		text, err := yaml.Marshal(o.o.Root.Any())
		if err == nil {
			_, _ = fmt.Fprint(w, o.what+indented(verdict.Redact(string(text))))
		}
	}
	_, _ = fmt.Fprintf(w, "  original:    %s\n  translation: %s\n\n", saidText(d.Original), saidText(d.Translation))
}

func saidText(s translate.Said) string {
	if s.Message == "" {
		return s.Outcome
	}
	return s.Outcome + ": " + verdict.Redact(s.Message)
}

func indented(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n"
}
