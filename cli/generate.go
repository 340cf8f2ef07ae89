// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/generate"
)

// generateFlags are the flags of generate policies.
type generateFlags struct {
	configFlags
	format, dir string
	mutate      bool
	exempt      []string
	noInline    bool
}

func newGenerate(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Make admission policies, network policies and roles",
	}
	cmd.AddCommand(newGeneratePolicies(s), newGenerateNetworkPolicies(s), newGenerateRoles(s))
	return group(cmd)
}

func newGeneratePolicies(s Streams) *cobra.Command {
	var f generateFlags
	cmd := &cobra.Command{
		Use:   "policies",
		Short: "Make ValidatingAdmissionPolicies of a baseline",
		Long: `Policies makes a ValidatingAdmissionPolicy and its binding of every control of a
baseline that one object decides, with the control's action, parameters and
exceptions. The API server enforces them by itself, whether or not Sconce runs.

Which controls have no policy, and why, is told on standard error.

Exceptions hold until the policies are made again: CEL has no clock. Those that
have expired today are left out; the annotation sconce.dev/exceptions-expire says
when the first of a policy does.

With -o static the manifests are for files that the API server reads at its start
(ManifestBasedAdmissionControlConfig, Kubernetes 1.37): they hold before anything
is stored, and cannot be deleted through the API.`,
		Example: `  sconce generate policies | kubectl apply --server-side -f -
  sconce generate policies -b pss-restricted --mutate
  sconce generate policies -o static --output-dir /etc/kubernetes/admission`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return runGenerate(s, &f, time.Now()) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	f.register(cmd)
	for _, name := range []string{"complete", "policies", "policy-key"} {
		_ = flags.MarkHidden(name) // no policy sees more than one object; and what is a policy already is translated
	}
	flags.StringVarP(&f.format, "output", "o", "yaml", "format: yaml, or static for files of the API server")
	flags.StringVar(&f.dir, "output-dir", "", "write to this folder, in files of its own for validating and mutating policies, instead of standard output")
	flags.BoolVar(&f.mutate, "mutate", false, "also make MutatingAdmissionPolicies of the controls' fixes")
	flags.StringSliceVar(&f.exempt, "exempt-namespace", []string{"kube-system", "sconce-system"}, "leave these namespaces alone, so that the control plane and Sconce can always start; '' for none")
	flags.BoolVar(&f.noInline, "no-inline-exceptions", false, "honour no annotation by which an object excuses itself")
	return cmd
}

func runGenerate(s Streams, f *generateFlags, now time.Time) error {
	if f.format != "yaml" && f.format != "static" {
		return fmt.Errorf("unknown output %q; want yaml or static", f.format)
	}
	if len(f.policies) > 0 {
		return fmt.Errorf("--policies: only controls are made into policies; `sconce convert policies %s` translates policies that there are", f.policies[0])
	}
	l, err := loadLibrary(f.config, now)
	if err != nil {
		return err
	}
	b, err := f.resolve(l, now)
	if err != nil {
		return err
	}
	opts := generate.Options{
		Exceptions: l.Exceptions(now).InForce(), Today: now, Static: f.format == "static", Mutate: f.mutate,
	}
	if f.noInline {
		opts.Today = time.Time{}
	}
	for _, ns := range f.exempt {
		if ns != "" {
			opts.ExemptNamespaces = append(opts.ExemptNamespaces, ns)
		}
	}
	policies := generate.Build(b, opts)
	if err := f.write(s.Out, policies); err != nil {
		return err
	}
	return tellLeft(s.Err, b, policies, opts.ExemptNamespaces)
}

// tellLeft says what became a policy, what did not, and what is left alone.
func tellLeft(w io.Writer, b *baseline.Baseline, p *generate.Policies, exempt []string) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%d of %d controls of %s are policies", len(p.Validating), len(b.Rules), b.Name)
	if len(p.Mutating) > 0 {
		fmt.Fprintf(&out, ", and %d make their fixes", len(p.Mutating))
	}
	out.WriteString("\n")
	if len(exempt) > 0 {
		fmt.Fprintf(&out, "left alone: the namespaces %s\n", strings.Join(exempt, ", "))
	}
	for _, line := range p.Table() {
		fmt.Fprintf(&out, "%s\n", line)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// write writes the policies to the output or to the folder.
func (f *generateFlags) write(w io.Writer, p *generate.Policies) error {
	if f.dir == "" {
		data, err := documents(p.Objects())
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	}
	var validating, mutating []runtime.Object
	for _, o := range p.Objects() {
		switch o.(type) {
		case *admissionregistrationv1.MutatingAdmissionPolicy, *admissionregistrationv1.MutatingAdmissionPolicyBinding:
			mutating = append(mutating, o)
		default:
			validating = append(validating, o)
		}
	}
	if err := f.file("validating", validating); err != nil {
		return err
	}
	return f.file("mutating", mutating)
}

// file writes policies to a file of the folder; the API server reads each kind
// from a folder of its own.
func (f *generateFlags) file(name string, objects []runtime.Object) error {
	if len(objects) == 0 {
		return nil
	}
	data, err := documents(objects)
	if err != nil {
		return err
	}
	dir := filepath.Join(f.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the output folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sconce.yaml"), data, 0o644); err != nil {
		return fmt.Errorf("writing policies: %w", err)
	}
	return nil
}

// documents returns objects as YAML documents.
func documents(objects []runtime.Object) ([]byte, error) {
	var b bytes.Buffer
	for i, o := range objects {
		if i > 0 {
			b.WriteString("---\n")
		}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return nil, fmt.Errorf("writing a policy: %w", err)
		}
		delete(content, "status")
		data, err := yaml.Marshal(content)
		if err != nil {
			return nil, fmt.Errorf("writing a policy as YAML: %w", err)
		}
		b.Write(data)
	}
	return b.Bytes(), nil
}
