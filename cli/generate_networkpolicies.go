// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/generate/manifest"
	"sconce.dev/sconce/generate/networkpolicy"
	"sconce.dev/sconce/generate/recording"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/posture"
	"sconce.dev/sconce/report"
)

// generatedFlags say how manifests that were proven are written.
type generatedFlags struct {
	format, dir string
	unproven    bool
}

func (f *generatedFlags) register(cmd *cobra.Command, each string) {
	flags := cmd.Flags()
	flags.StringVarP(&f.format, "output", "o", "yaml", "format: yaml, or json for the manifests and all that is said of them")
	flags.StringVar(&f.dir, "output-dir", "", "write to this folder, a file for each "+each+", instead of standard output")
	flags.BoolVar(&f.unproven, "unproven", false, "write the manifests even if they are not proven")
}

func (f *generatedFlags) check() error {
	switch {
	case f.format != "yaml" && f.format != "json":
		return fmt.Errorf("unknown output %q; want yaml or json", f.format)
	case f.format == "json" && f.dir != "":
		return errors.New("--output-dir goes with -o yaml")
	}
	return nil
}

// file is what is written to a file of the folder.
type generatedFile struct {
	name      string
	documents []*manifest.Document
}

// write writes YAML: one after another, or to files.
func (f *generatedFlags) write(w io.Writer, files []generatedFile) error {
	if f.dir == "" {
		var all []*manifest.Document
		for _, file := range files {
			all = append(all, file.documents...)
		}
		data, err := manifest.YAML(all)
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return fmt.Errorf("making the output folder: %w", err)
	}
	taken := map[string]bool{}
	for _, file := range files {
		data, err := manifest.YAML(file.documents)
		if err != nil {
			return err
		}
		name := fileName(file.name)
		for i := 2; taken[strings.ToLower(name)]; i++ { // some file systems know no case
			name = fmt.Sprintf("%s-%d", fileName(file.name), i)
		}
		taken[strings.ToLower(name)] = true
		if err := os.WriteFile(filepath.Join(f.dir, name+".yaml"), data, 0o644); err != nil {
			return fmt.Errorf("writing manifests: %w", err)
		}
	}
	return nil
}

// fileName keeps what names objects from leaving the folder.
func fileName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' {
			return r
		}
		return '_'
	}, s)
	if strings.Trim(s, ".") == "" {
		return "none"
	}
	return s
}

// trees returns documents as they are in JSON.
func trees(documents []*manifest.Document) ([]map[string]any, error) {
	out := []map[string]any{}
	for _, d := range documents {
		tree, err := d.Tree()
		if err != nil {
			return nil, err
		}
		out = append(out, tree)
	}
	return out, nil
}

// readRecordings hands each file to a reader of recordings; - is standard input.
func readRecordings(s Streams, files []string, read func(*bufio.Reader, string) error) error {
	for _, name := range files {
		if err := readRecording(s, name, read); err != nil {
			return err
		}
	}
	return nil
}

func readRecording(s Streams, name string, read func(*bufio.Reader, string) error) error {
	in := s.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	r, err := recording.Open(in)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	return read(r, name)
}

type networkPoliciesFlags struct {
	modelFlags
	generatedFlags
	flows                           []string
	namespaces, exempt, controllers []string
	servers                         []string
	strict, replace                 bool
}

func newGenerateNetworkPolicies(s Streams) *cobra.Command {
	f := &networkPoliciesFlags{}
	cmd := &cobra.Command{
		Use:   "networkpolicies",
		Short: "Make NetworkPolicies of what is declared and what was recorded, and prove them",
		Long: `Networkpolicies makes a NetworkPolicy for each workload, and one for each namespace
that isolates the rest. They allow what objects declare (Services, Ingresses and
routes, webhooks, metrics, the name service), what the configuration of workloads
suggests (a variable that names a Service), and what --flows has recorded. A
comment above each rule says why it is there.

The result is proven by the exact model that sconce reach asks: all of these
connections are allowed with the policies, nothing is that was not before, and no
port of a Service is cut off. Where a rule is wider than what is known, it is
named with the reason. What is not proven is not written, unless --unproven is
given.

--flows takes flows of Hubble (hubble observe -o json), flow logs of Calico, or
lines of CSV or JSON with from, to, protocol, port and time; packed with gzip or
not, - for standard input.

Exit codes: 0 proven; 1 not proven; 2 not everything could be read.`,
		Example: `  sconce generate networkpolicies -n shop
  sconce generate networkpolicies -f deploy/ --complete --output-dir policies/
  hubble observe -o json --since 24h | sconce generate networkpolicies --flows -
  sconce generate networkpolicies --flows monday.json.gz --flows flows.csv --strict
  sconce generate networkpolicies --ingress-controller ingress-nginx --api-server 10.0.0.10`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return wrappedNil("generate networkpolicies", runGenerateNetworkPolicies(s, f))
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringArrayVar(&f.flows, "flows", nil, "file of recorded flows; can be repeated")
	flags.StringSliceVarP(&f.namespaces, "namespace", "n", nil, "make policies for these namespaces alone (all are read)")
	flags.StringSliceVar(&f.exempt, "exempt-namespace", []string{"kube-system", "kube-public", "kube-node-lease"}, "make none for these; '' for none")
	flags.StringSliceVar(&f.controllers, "ingress-controller", nil, "NAMESPACE or NAMESPACE/NAME of what serves Ingresses and routes (default: known by its labels)")
	flags.StringSliceVar(&f.servers, "api-server", nil, "address or CIDR of the API server, which calls webhooks and which workloads call")
	flags.BoolVar(&f.strict, "strict", false, "allow nothing that is only suggested or guessed")
	flags.BoolVar(&f.replace, "replace", false, "prove the result without the NetworkPolicies that are there now, which you then delete")
	f.generatedFlags.register(cmd, "namespace")
	f.modelFlags.register(cmd)
	return cmd
}

// wrappedNil is wrapped for what may be no error.
func wrappedNil(command string, err error) error {
	if err == nil {
		return nil
	}
	return wrapped(command, err)
}

func (f *networkPoliciesFlags) options() (networkpolicy.Options, error) {
	opts := networkpolicy.Options{Namespaces: f.namespaces, IngressControllers: f.controllers, Strict: f.strict, Replace: f.replace}
	opts.Exempt = slices.DeleteFunc(slices.Clone(f.exempt), func(ns string) bool { return ns == "" || slices.Contains(f.namespaces, ns) })
	for _, text := range f.servers {
		p, err := netip.ParsePrefix(text)
		if a, notPrefix := netip.ParseAddr(text); notPrefix == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return opts, fmt.Errorf("--api-server %q: want an address or a CIDR, such as 10.0.0.10 or 10.0.0.0/24", text)
		}
		opts.APIServers = append(opts.APIServers, p.Masked())
	}
	return opts, nil
}

func runGenerateNetworkPolicies(s Streams, f *networkPoliciesFlags) error {
	opts, err := f.options()
	if err := errors.Join(err, f.check()); err != nil {
		return err
	}
	var flows *networkpolicy.Flows
	if len(f.flows) > 0 {
		flows = networkpolicy.NewFlows()
		if err := readRecordings(s, f.flows, flows.Read); err != nil {
			return err
		}
	}
	var kept []*networkpolicy.Kept
	var mu sync.Mutex
	wanted := posture.Reads(posture.Network)
	m, err := f.readWith(s, posture.Network, func(gk object.GroupKind) bool { return wanted(gk) || networkpolicy.Reads(gk) }, func(o *object.Object) {
		if k := networkpolicy.Keep(o); k != nil {
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept, k)
		}
	})
	if err != nil {
		return err
	}
	env := m.Env
	env.Complete = m.Complete
	r, err := networkpolicy.Generate(kept, flows, env, opts)
	if err != nil {
		return err
	}
	if err := f.tell(s, flows, r); err != nil {
		return err
	}
	if flows != nil && flows.Faults.Count > 0 {
		return exitCode(exitError)
	}
	return m.exit(!r.Proof.Holds())
}

// tell writes the policies, and says what is to be known of them.
func (f *networkPoliciesFlags) tell(s Streams, flows *networkpolicy.Flows, r *networkpolicy.Result) error {
	write := f.unproven || r.Proof.Holds()
	if f.format == "json" {
		documents := r.Documents
		if !write {
			documents = nil
		}
		policies, err := trees(documents)
		if err != nil {
			return err
		}
		return report.JSON(s.Out, struct {
			Recording *networkpolicy.Flows  `json:"recording,omitempty"`
			Result    *networkpolicy.Result `json:"result"`
			Policies  []map[string]any      `json:"policies"`
		}{flows, r, policies})
	}
	if flows != nil {
		if err := flows.Text(s.Err); err != nil {
			return err
		}
	}
	if err := r.Text(s.Err); err != nil {
		return err
	}
	if !write {
		_, err := fmt.Fprintln(s.Err, "nothing is written, since it is not proven: mend what is listed, or see the policies with --unproven")
		return err
	}
	var files []generatedFile
	for _, d := range r.Documents {
		namespace := networkpolicy.NamespaceOf(d)
		if n := len(files); n == 0 || files[n-1].name != namespace {
			files = append(files, generatedFile{name: namespace})
		}
		files[len(files)-1].documents = append(files[len(files)-1].documents, d)
	}
	return f.generatedFlags.write(s.Out, files)
}
