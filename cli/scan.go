// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/fix"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/report"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// provenFixes is how many findings a scan may have for their fixes to be made on
// a copy, judged again and shown as a diff. With more, nobody reads them one by
// one: the scan names the edits, stays about as fast as reading the files, and
// `sconce fix --diff` shows the rest.
const provenFixes = 150

// maxProving is the largest document whose fixes a scan proves, in bytes: each
// is parsed for each fix.
const maxProving = 128 << 10

type scanFlags struct {
	judgeFlags
	sourceFlags
}

// judgeFlags say what is judged by, and what becomes of the findings, wherever
// the objects come from.
type judgeFlags struct {
	configFlags
	outputFlags
	frameworkFlags
	failOn []string
}

func (f *judgeFlags) register(cmd *cobra.Command) {
	f.configFlags.register(cmd)
	f.outputFlags.register(cmd)
	f.frameworkFlags.register(cmd)
	f.sorting = true
	f.configFlags.narrow = func(l *baseline.Library, opts *baseline.Options) error {
		return f.frameworkFlags.narrow(cmd, l, f.baseline, opts)
	}
	cmd.Flags().StringSliceVar(&f.failOn, "fail-on", []string{"low"}, "what makes the exit code 1: findings of this severity and worse (critical, high, medium, low), or none; with unknown, what could not be decided makes it 3")
}

func newScan(s Streams) *cobra.Command {
	f := &scanFlags{}
	cmd := &cobra.Command{
		Use:   "scan [PATH|GLOB|-]...",
		Short: "Say what is wrong with manifests, charts and overlays",
		Long: `Scan holds Kubernetes manifests against a baseline. It takes files, folders,
globs, standard input (-) and Git revisions, and renders the Helm charts and
Kustomize overlays that it finds on the way. Beside Kubernetes objects it reads
configuration of kubeadm, kubelets and the API server, and of container engines
(containerd, Docker, CRI-O), the latter by the names of their files.

What cannot be read, rendered or decided is unknown: it is said, counted, and
never a pass.

Exit codes: 0 nothing failed; 1 something failed, at or above --fail-on;
2 not everything could be read; 3 something is unknown, with --fail-on unknown.`,
		Example: `  sconce scan .
  sconce scan deploy/ charts/web -f values-prod.yaml
  sconce scan 'apps/**/*.yaml' -o sarif --output-file sconce.sarif
  kubectl get deploy -A -o yaml | sconce scan -
  sconce scan --rev origin/main deploy/
  sconce scan cluster --context prod
  sconce scan --framework nsa-1.2 .
  sconce scan -b pss-restricted --kube-version 1.35 --fail-on high,unknown .`,
		RunE: func(cmd *cobra.Command, args []string) error { return runScan(cmd, s, f, args) },
	}
	f.judgeFlags.register(cmd)
	f.sourceFlags.register(cmd)
	cmd.AddCommand(newScanCluster(s))
	return cmd
}

// threshold is what --fail-on says.
type threshold struct {
	rank    int // findings of this rank and better do not count
	unknown bool
}

func parseThreshold(words []string) (threshold, error) {
	t := threshold{rank: -1}
	if len(words) == 1 && words[0] == "unknown" {
		words = []string{"low", "unknown"} // unknown asks for more, not for less
	}
	for _, w := range words {
		switch {
		case w == "none":
		case w == "unknown":
			t.unknown = true
		case slices.Contains(verdict.Severities, v1alpha1.Severity(w)):
			t.rank = max(t.rank, verdict.Rank(v1alpha1.Severity(w)))
		default:
			return t, fmt.Errorf("--fail-on: unknown word %q; want critical, high, medium, low, unknown or none", w)
		}
	}
	return t, nil
}

// exit returns how the program ends after a scan.
func (t threshold) exit(s *verdict.Summary) error {
	failed := 0
	for severity, n := range s.Findings {
		if verdict.Rank(severity) <= t.rank {
			failed += n
		}
	}
	switch {
	case s.Problems > 0:
		return exitCode(exitError)
	case failed > 0:
		return exitCode(exitFindings)
	case t.unknown && s.Unknown > 0:
		return exitCode(exitUnknown)
	}
	return nil
}

func runScan(cmd *cobra.Command, s Streams, f *scanFlags, targets []string) error {
	if _, err := parseThreshold(f.failOn); err != nil {
		return err
	}
	if len(targets) == 0 {
		return fmt.Errorf("nothing to scan: name files, folders, globs or - for standard input, as in `sconce scan .`, or the cluster, as in `sconce scan cluster`")
	}
	if len(targets) == 1 && isSnapshot(targets[0]) {
		return loadSnapshot(cmd, s, &f.judgeFlags, targets[0])
	}
	b, eng, err := f.load(time.Now())
	if err != nil {
		return err
	}
	plan, closeSources, err := f.discover(s, targets, b)
	if err != nil {
		return err
	}
	defer closeSources()
	return f.judge(cmd, s, &scanned{
		baseline: b, engine: eng, units: plan.Units, what: "files, charts and overlays",
		config: verdict.Config{Targets: targets, Revision: f.revision},
	})
}

// scanned is what is judged.
type scanned struct {
	baseline *baseline.Baseline
	engine   *engine.Engine
	units    []snapshot.Unit
	what     string // the units, in words
	config   verdict.Config
}

// interruptible returns a context that ends with a signal. A pipe that closes
// (| head) ends a scan like one, so that what it put into temporary folders is
// removed.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
}

// judge judges what was found and reports on it.
func (f *judgeFlags) judge(cmd *cobra.Command, s Streams, what *scanned) error {
	limit, err := parseThreshold(f.failOn)
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	out, closeOut, err := f.open(cmd, s)
	if err != nil {
		return err
	}
	progress := newProgress(s.Err, len(what.units), what.what, f.quiet)
	run := &scanRun{baseline: what.baseline, engine: what.engine, out: out, told: map[string]bool{}, proving: true, progress: progress}
	err = run.config(f, &what.config)
	var summary *verdict.Summary
	if err == nil {
		summary, err = what.engine.Run(ctx, what.units, provenFixes, run.output())
	}
	progress.clear()
	if err == nil {
		err = run.release()
	}
	if err == nil {
		f.report(what.baseline, summary)
		err = out.Write(&verdict.Message{Summary: summary})
	}
	if err == nil {
		err = out.Close()
	}
	if closeErr := closeOut(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	return limit.exit(summary)
}

// scanRun turns what the engine finds into messages.
type scanRun struct {
	baseline *baseline.Baseline
	engine   *engine.Engine
	out      report.Writer
	told     map[string]bool // controls that were described
	progress *progress
	// While proving, results are held back until it is known that there are
	// few enough of them.
	proving bool
	held    []*engine.Result
	count   int
}

// config says what was asked, beside what is said of the source already.
func (r *scanRun) config(f *judgeFlags, c *verdict.Config) error {
	c.Stream, c.Program, c.Version = verdict.StreamVersion, "sconce", version()
	c.Baseline, c.KubernetesVersion = r.baseline.Name, r.baseline.Version.String()
	c.Frameworks, c.Compliance, c.Policies = r.baseline.Frameworks, f.frameworks, f.policies
	return r.out.Write(&verdict.Message{Config: c})
}

func (r *scanRun) output() engine.Output {
	return engine.Output{
		Result: r.result,
		Problem: func(p verdict.Problem) error {
			r.progress.clear()
			return r.out.Write(&verdict.Message{Problem: &p})
		},
		Notice: func(n verdict.Notice) error { return r.out.Write(&verdict.Message{Notice: &n}) },
		Done:   r.progress.done,
	}
}

func (r *scanRun) result(res *engine.Result) error {
	if !r.proving {
		return r.write(res)
	}
	r.held = append(r.held, res)
	if r.count += len(res.Findings); r.count > provenFixes {
		r.proving = false
		return r.release()
	}
	return nil
}

// release writes what was held back, with fixes proven if that is still meant
// to be done.
func (r *scanRun) release() error {
	for _, res := range r.held {
		if text := textOf(res.Object); r.proving && len(text) > 0 && len(text) <= maxProving {
			fix.Prove(res.Object, res.Findings, judge(r.engine))
		}
		if err := r.write(res); err != nil {
			return err
		}
	}
	r.held = nil
	return nil
}

// textOf is the text that an object was read from. Those of a cluster have none:
// their edits are named, and not tried on it.
func textOf(o *object.Object) []byte {
	if o == nil {
		return nil
	}
	return o.Origin.Text
}

// write passes a result on.
func (r *scanRun) write(res *engine.Result) error {
	r.progress.clear()
	for i := range res.Findings {
		f := &res.Findings[i]
		if f.Fix != nil && f.Rendered != "" {
			f.Fix.Refused = fix.Rendered
		}
		if !r.told[f.Control] {
			r.told[f.Control] = true
			if err := r.out.Write(&verdict.Message{Control: r.info(f.Control)}); err != nil {
				return err
			}
		}
		if err := r.out.Write(&verdict.Message{Finding: f}); err != nil {
			return err
		}
	}
	return nil
}

func (r *scanRun) info(name string) *verdict.Control {
	for _, rule := range r.baseline.Rules {
		if rule.Name == name {
			return rule.Info()
		}
	}
	return nil
}

// outputFlags choose what is printed where.
type outputFlags struct {
	format string
	file   string
	quiet  bool
}

func (f *outputFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.format, "output", "o", "table", "format: "+strings.Join(report.Formats(), ", "))
	flags.StringVar(&f.file, "output-file", "", "write to this file instead of standard output")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "show no progress on standard error")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(report.Formats(), cobra.ShellCompDirectiveNoFileComp))
}

// open returns a writer of the format, and a function that closes what it
// writes to.
func (f *outputFlags) open(cmd *cobra.Command, s Streams) (report.Writer, func() error, error) {
	if !slices.Contains(report.Formats(), f.format) {
		return nil, nil, fmt.Errorf("unknown output %q; want %s", f.format, strings.Join(report.Formats(), ", "))
	}
	to, closeFile := s.Out, func() error { return nil }
	if f.file != "" {
		file, err := os.Create(f.file)
		if err != nil {
			return nil, nil, fmt.Errorf("writing the report: %w", err)
		}
		to, closeFile = file, file.Close
	}
	buffered := bufio.NewWriterSize(to, 64<<10)
	width, _ := terminal(s.Out)
	w, err := report.New(f.format, buffered, report.Options{Color: colour(cmd, to), Width: width})
	if err != nil {
		return nil, nil, err
	}
	return w, func() error {
		if err := buffered.Flush(); err != nil {
			return err
		}
		return closeFile()
	}, nil
}

// progress is a line on standard error, where that is a terminal, that says how
// far a scan has come. It is shown only once a scan takes long.
type progress struct {
	out    io.Writer
	total  int
	what   string
	verb   string // "scanned" if it is empty
	start  time.Time
	last   time.Time
	silent bool
	shown  bool
}

func newProgress(out io.Writer, total int, what string, quiet bool) *progress {
	_, isTerminal := terminal(out)
	return &progress{out: out, total: total, what: what, start: time.Now(), silent: quiet || !isTerminal}
}

// done says that n units are done.
func (p *progress) done(n int) {
	now := time.Now()
	if p.silent || now.Sub(p.start) < time.Second || now.Sub(p.last) < 100*time.Millisecond {
		return
	}
	p.last, p.shown = now, true
	_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s %d of %d %s", cmp.Or(p.verb, "scanned"), n, p.total, p.what)
}

// clear takes the line away, so that what is printed next stands alone.
func (p *progress) clear() {
	if p.shown {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}
