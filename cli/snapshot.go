// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/verdict"
)

func newSnapshot(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Keep what a scan of a cluster reads in one file, and scan that",
	}
	cmd.AddCommand(newSnapshotSave(s), newSnapshotLoad(s))
	return group(cmd)
}

type saveFlags struct {
	configFlags
	clusterFlags
	name  string
	quiet bool
}

func newSnapshotSave(s Streams) *cobra.Command {
	f := &saveFlags{}
	cmd := &cobra.Command{
		Use:   "save FILE",
		Short: "Write what a scan of a cluster reads into one file",
		Long: `Save writes the objects of a cluster into one compressed file, which can be
scanned elsewhere, again and with other baselines. By default it holds every
kind that any control is about; with -b or --control, what these need.

The values of Secrets, and what looks like a credential in other objects, are
left out: what is judged by them is unknown when the file is scanned. What could
not be read is written down, and is unknown then too.

Exit codes: 0 all was read; 2 not all of it.`,
		Example: `  sconce snapshot save prod.sconce --context prod
  sconce snapshot load prod.sconce -b hardened`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runSave(cmd, s, f, args[0]) },
	}
	f.configFlags.register(cmd)
	f.clusterFlags.register(cmd)
	for _, name := range []string{"complete", "kube-version"} {
		_ = cmd.Flags().MarkHidden(name) // they are for scanning
	}
	name := cmd.Flags().Lookup("baseline")
	name.Usage, name.DefValue = "read what this baseline needs, instead of what any control needs", ""
	cmd.Flags().StringVar(&f.name, "name", "", "what the cluster is called in the file (default: its context)")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "show no progress on standard error")
	return cmd
}

func newSnapshotLoad(s Streams) *cobra.Command {
	f := &judgeFlags{}
	cmd := &cobra.Command{
		Use:   "load FILE",
		Short: "Scan a cluster as a file holds it",
		Long: `Load scans what "snapshot save" wrote, without the cluster. What it finds is what
scanning the cluster would have found then, but for values of Secrets, which the
file does not hold: what is judged by them is unknown. "sconce scan FILE" does
the same.

Exit codes are those of scan.`,
		Example: `  sconce snapshot load prod.sconce
  sconce snapshot load prod.sconce -b pss-restricted -o html --output-file prod.html`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return loadSnapshot(cmd, s, f, args[0]) },
	}
	f.register(cmd)
	cmd.Flags().Lookup("kube-version").Usage = versionOfServer
	_ = cmd.Flags().MarkHidden("complete") // the file says so
	return cmd
}

func runSave(cmd *cobra.Command, s Streams, f *saveFlags, file string) (err error) {
	c, err := f.connect()
	if err != nil {
		return fmt.Errorf("snapshot save: %w", err)
	}
	c.Name = cmp.Or(f.name, c.Name)
	if !cmd.Flags().Changed("baseline") && len(f.controls) == 0 {
		f.narrow = func(l *baseline.Library, opts *baseline.Options) error {
			opts.Only = slices.DeleteFunc(l.Controls(), func(name string) bool { return slices.Contains(f.skip, name) })
			return nil
		}
	}
	_, eng, err := f.load(time.Now())
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	wanted := f.wanted(eng)
	h := c.Served(ctx).Header(wanted)
	h.Taken, h.Namespace, h.AllKinds = time.Now().UTC().Truncate(time.Second), f.namespace, f.allKinds
	saved, err := writeFile(file, func(out *bufio.Writer) (*cluster.Saved, error) {
		progress := newProgress(s.Err, len(h.Kinds), "kinds", f.quiet)
		defer progress.clear()
		return c.Save(ctx, out, h, progress.done)
	})
	if err != nil {
		return fmt.Errorf("snapshot save: writing %s: %w", file, err)
	}
	return tellSaved(s, file, saved)
}

// tellSaved says what was saved, and what could not be.
func tellSaved(s Streams, file string, saved *cluster.Saved) error {
	for _, p := range saved.Problems {
		_, _ = fmt.Fprintf(s.Err, "sconce: %s\n", p.Message)
	}
	_, _ = fmt.Fprintf(s.Out, "%s holds %d objects of %d kinds; %d secret values were left out\n", file, saved.Objects, saved.Kinds, saved.LeftOut)
	if len(saved.Problems) > 0 {
		return exitCode(exitError)
	}
	return nil
}

// writeFile writes a file that is there when it is whole, and readable by its
// owner alone.
func writeFile(name string, write func(*bufio.Writer) (*cluster.Saved, error)) (*cluster.Saved, error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it was renamed, or is of no use
	out := bufio.NewWriterSize(f, 64<<10)
	saved, err := write(out)
	if err == nil {
		err = out.Flush()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	return saved, err
}

// openSnapshot opens a snapshot, whose objects are read from the file until it is
// closed.
func openSnapshot(file string) (*cluster.Snapshot, func(), error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	snap, err := cluster.Open(file, in)
	if err != nil {
		_ = in.Close()
		return nil, nil, err
	}
	return snap, func() { _ = in.Close() }, nil
}

// loadSnapshot scans a snapshot.
func loadSnapshot(cmd *cobra.Command, s Streams, f *judgeFlags, file string) error {
	if _, err := parseThreshold(f.failOn); err != nil {
		return err
	}
	snap, closeSnapshot, err := openSnapshot(file)
	if err != nil {
		return fmt.Errorf("snapshot load: %w", err)
	}
	defer closeSnapshot()
	h := &snap.Header
	b, eng, err := f.judgeAs(h.Server, h.Namespace)
	if err != nil {
		return err
	}
	return f.judge(cmd, s, &scanned{
		baseline: b, engine: eng, units: snap.Units(wantedBy(eng, h.AllKinds)), what: "kinds",
		config: verdict.Config{Targets: []string{file}, Cluster: h.Cluster},
	})
}
