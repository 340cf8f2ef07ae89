// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/pager"

	"sconce.dev/sconce/drift"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/cluster"
)

type rollbackFlags struct {
	clusterFlags
	all, dryRun bool
	control     string
}

func newRollback(s Streams) *cobra.Command {
	f := &rollbackFlags{}
	cmd := &cobra.Command{
		Use:   "rollback [KIND/NAME]...",
		Short: "Put back what was there before the agent remediated it",
		Long: `Rollback reads what "sconce agent --remediate" recorded in the annotations of
objects (` + drift.AnnotationPrefix + `CONTROL), and puts back what was there before. The
annotation then says so, and keeps the agent from remediating the object again
until it is removed.

What was changed in the meantime is left alone, and that is said. What another
object made, as a Deployment its ReplicaSets, follows that object.

The annotation holds what anybody wrote there who may change the object, and the
change is made with your rights: look at it with --dry-run, above all before --all.

Exit codes: 0 all was put back; 2 not all of it.`,
		Example: `  sconce rollback deployment/web -n shop
  sconce rollback deployment/web -n shop --control privileged-container --dry-run
  sconce rollback --all -n shop
  sconce rollback --all                # in all namespaces`,
		RunE: func(_ *cobra.Command, args []string) error { return runRollback(s, f, args) },
	}
	f.clusterFlags.register(cmd)
	_ = cmd.Flags().MarkHidden("all-kinds")
	cmd.Flags().Lookup("namespace").Usage = "namespace of the objects (default: with --all every one, else the context's)"
	cmd.Flags().BoolVar(&f.all, "all", false, "everything that was remediated, in the namespace or the whole cluster")
	cmd.Flags().StringVar(&f.control, "control", "", "only what was done for this control")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "have the API server check the change, and print it, but change nothing")
	return cmd
}

// rollbackRun rolls objects back.
type rollbackRun struct {
	s      Streams
	f      *rollbackFlags
	client dynamic.Interface
	done   int
	failed int
}

func runRollback(s Streams, f *rollbackFlags, args []string) error {
	if f.all == (len(args) > 0) {
		return fmt.Errorf("rollback: name objects, as in `sconce rollback deployment/web -n shop`, or --all")
	}
	c, err := f.connect()
	if err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	config, err := f.restConfig()
	if err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	r := &rollbackRun{s: s, f: f}
	if r.client, err = dynamic.NewForConfig(config); err != nil {
		return fmt.Errorf("rollback: connecting to the cluster: %w", err)
	}
	ctx, stop := interruptible()
	defer stop()
	kinds, problems := c.Kinds(ctx, drift.Remediates)
	for _, p := range problems {
		r.fail("%s", p.Message)
	}
	if f.all {
		r.everything(ctx, kinds)
	}
	for _, arg := range args {
		r.named(ctx, kinds, arg)
	}
	if r.done == 0 && r.failed == 0 {
		_, _ = fmt.Fprintln(s.Out, "nothing is remediated here")
	}
	if r.failed > 0 {
		return exitCode(exitError)
	}
	return nil
}

func (r *rollbackRun) fail(format string, args ...any) {
	r.failed++
	_, _ = fmt.Fprintf(r.s.Err, "sconce: rollback: "+format+"\n", args...)
}

// everything rolls back all objects of the kinds that are remediated.
func (r *rollbackRun) everything(ctx context.Context, kinds []cluster.Kind) {
	for _, k := range kinds {
		if r.f.namespace != "" && !k.Namespaced {
			continue
		}
		list := pager.New(func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			return resource(r.client, k, r.f.namespace).List(ctx, opts)
		})
		err := list.EachListItem(ctx, metav1.ListOptions{}, func(o runtime.Object) error {
			if u, ok := o.(*unstructured.Unstructured); ok {
				r.object(ctx, k, u, false)
			}
			return nil
		})
		if err != nil {
			r.fail("listing %s: %v", k, err)
		}
	}
}

// named rolls back one object that was named.
func (r *rollbackRun) named(ctx context.Context, kinds []cluster.Kind, arg string) {
	kind, name, ok := strings.Cut(arg, "/")
	if !ok || kind == "" || name == "" {
		r.fail("%q names no object; want KIND/NAME, as in deployment/web", arg)
		return
	}
	i := slices.IndexFunc(kinds, func(k cluster.Kind) bool {
		return strings.EqualFold(kind, k.Kind) || strings.EqualFold(kind, k.Resource) || strings.EqualFold(kind, k.String()) || strings.EqualFold(kind, k.Kind+"."+k.Group)
	})
	if i < 0 {
		r.fail("objects of the kind %q are not remediated; those of these kinds are: %s", kind, names(kinds))
		return
	}
	namespace := r.f.namespace
	if namespace == "" && kinds[i].Namespaced {
		var err error
		if namespace, _, err = r.f.loader().Namespace(); err != nil {
			r.fail("reading the kubeconfig: %v", err)
			return
		}
	}
	u, err := resource(r.client, kinds[i], namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		r.fail("reading %s: %v", arg, err)
		return
	}
	r.object(ctx, kinds[i], u, true)
}

func names(kinds []cluster.Kind) string {
	var out []string
	for _, k := range kinds {
		out = append(out, strings.ToLower(k.Kind))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// object rolls back the remediations of an object. One that was asked for must
// have some.
func (r *rollbackRun) object(ctx context.Context, k cluster.Kind, u *unstructured.Unstructured, asked bool) {
	o, err := liveObject(u)
	if err != nil {
		r.fail("%v", err)
		return
	}
	controls := drift.Remediated(o)
	if r.f.control != "" {
		controls = slices.DeleteFunc(controls, func(c string) bool { return c != r.f.control })
	}
	owner := metav1.GetControllerOf(u)
	switch {
	case len(controls) == 0 && asked:
		r.fail("%s holds no remediation that can be rolled back", o.Ref)
	case owner != nil && len(controls) > 0:
		// A Deployment's annotations are on its ReplicaSets too: the edits are not.
		if asked {
			r.fail("%s was made by %s %s, which is what was remediated: roll that back", o.Ref, owner.Kind, owner.Name)
		}
		return
	}
	for _, control := range controls {
		next, err := r.control(ctx, k, o, control)
		if err != nil {
			r.fail("%s: %v", control, err)
			continue
		}
		o = next
	}
}

// control rolls back one remediation and returns the object as it is then.
func (r *rollbackRun) control(ctx context.Context, k cluster.Kind, o *object.Object, control string) (*object.Object, error) {
	p, err := drift.Rollback(o, control, time.Now())
	if err != nil {
		return nil, err
	}
	opts := metav1.PatchOptions{FieldManager: "sconce-rollback"}
	if r.f.dryRun {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	u, err := resource(r.client, k, o.Namespace).Patch(ctx, o.Name, types.JSONPatchType, p.Ops.JSON(), opts)
	switch {
	case apierrors.IsInvalid(err):
		return nil, fmt.Errorf("%s has changed while it was rolled back, or may not be what it was: %w", o.Ref, err)
	case err != nil:
		return nil, fmt.Errorf("changing %s: %w", o.Ref, err)
	}
	r.done++
	verb := "put back"
	if r.f.dryRun {
		verb = "would put back"
	}
	_, _ = fmt.Fprintf(r.s.Out, "%s: %s: %s\n", o.Ref, control, verb)
	if r.f.dryRun {
		_, _ = fmt.Fprintf(r.s.Out, "  %s\n", p.Ops.JSON())
		return o, nil
	}
	next, err := liveObject(u)
	if err != nil {
		return nil, errors.Join(errors.New("it was put back"), err)
	}
	return next, nil
}
