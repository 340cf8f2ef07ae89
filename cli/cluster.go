// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/verdict"
)

// clusterFlags say which cluster is read, and what of it.
type clusterFlags struct {
	kubeconfig, context, namespace string
	allKinds                       bool
}

// versionOfServer is the usage of --kube-version where an API server says its own.
const versionOfServer = "version to judge for, as in 1.36 or 1.36.2 (default: the API server's)"

func (f *clusterFlags) register(cmd *cobra.Command) {
	f.registerConnection(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&f.namespace, "namespace", "n", "", "only what is in this namespace; what needs more to be decided is unknown")
	flags.BoolVar(&f.allKinds, "all-kinds", false, "read also kinds that no control is about: credentials are looked for in everything that is read")
	if version := flags.Lookup("kube-version"); version != nil {
		version.Usage = versionOfServer
	}
}

// registerConnection registers the flags that say which cluster is read.
func (f *clusterFlags) registerConnection(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "file of the clusters that are known (default: $KUBECONFIG, ~/.kube/config; in a pod without these, its ServiceAccount)")
	flags.StringVar(&f.context, "context", "", "context of the kubeconfig, instead of its current one")
	_ = cmd.RegisterFlagCompletionFunc("context", f.completeContexts)
}

// completeContexts completes the name of a context.
func (f *clusterFlags) completeContexts(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	raw, err := f.loader().RawConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []cobra.Completion
	for name := range raw.Contexts {
		out = append(out, name)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// loader reads the configuration as kubectl does.
func (f *clusterFlags) loader() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context})
}

// connect returns the cluster that the flags choose.
func (f *clusterFlags) connect() (*cluster.Cluster, error) {
	loader := f.loader()
	config, err := loader.ClientConfig()
	if err != nil {
		if clientcmd.IsEmptyConfig(err) {
			return nil, fmt.Errorf("no cluster is configured: name a --kubeconfig, or set KUBECONFIG")
		}
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	c, err := cluster.Connect(config)
	switch {
	case apierrors.IsUnauthorized(err):
		return nil, fmt.Errorf("%w: the token or the certificate in the kubeconfig has expired or is not valid; log in again, or choose another --context", err)
	case err != nil:
		return nil, fmt.Errorf("%w; see whether `kubectl version` reaches it", err)
	}
	if raw, err := loader.RawConfig(); err == nil {
		c.Name = cmp.Or(f.context, raw.CurrentContext)
	}
	c.Name = cmp.Or(c.Name, "cluster")
	return c, nil
}

// wanted says which kinds are read for an engine.
func (f *clusterFlags) wanted(e *engine.Engine) func(object.GroupKind) bool {
	return wantedBy(e, f.allKinds)
}

func wantedBy(e *engine.Engine, allKinds bool) func(object.GroupKind) bool {
	if allKinds {
		return func(object.GroupKind) bool { return true }
	}
	return e.Reads
}

// serverVersion is what the version of an API server begins with. A
// distribution builds its own from a version, so that the number of the patch
// does not tell what is fixed in it.
var serverVersion = regexp.MustCompile(`^v?(\d+\.\d+)(\.\d+)?(.*)$`)

// versionOf returns the version of Kubernetes that an API server is judged by.
func versionOf(server string) string {
	m := serverVersion.FindStringSubmatch(server)
	switch {
	case m == nil:
		return ""
	case m[3] == "":
		return m[1] + m[2]
	}
	return m[1]
}

// judgeAs returns the baseline and the engine for a cluster's objects: for its
// version, unless another was named, and complete, unless only a part is read.
func (f *configFlags) judgeAs(server, namespace string) (*baseline.Baseline, *engine.Engine, error) {
	f.kubeVersion = cmp.Or(f.kubeVersion, versionOf(server))
	f.complete, f.partial = namespace == "", namespace != ""
	return f.load(time.Now())
}

type scanClusterFlags struct {
	judgeFlags
	clusterFlags
	printRole bool
}

func newScanCluster(s Streams) *cobra.Command {
	f := &scanClusterFlags{}
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Say what is wrong with what runs in a cluster",
		Long: `Scan cluster holds the objects of a cluster against a baseline: of every kind
that its API serves and that a control, or a fact that a control needs, is about.
It only reads, needs "list" for these kinds and nothing else, and
--print-cluster-role prints just that role.

What may not be read is said, counted as unknown, and never a pass. The
baseline's controls are those for the version of the API server.

A finding that a Pod or a ReplicaSet has because its owner has it is told once,
of the owner. ReplicaSets that a Deployment keeps of its past are counted, and
not judged.

Exit codes are those of scan.`,
		Example: `  sconce scan cluster
  sconce scan cluster --context prod -b hardened -o html --output-file prod.html
  sconce scan cluster -n shop --fail-on high
  sconce scan cluster --print-cluster-role | kubectl apply -f -
  sconce scan ./cluster             # the folder of that name`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runScanCluster(cmd, s, f) },
	}
	f.judgeFlags.register(cmd)
	f.clusterFlags.register(cmd)
	_ = cmd.Flags().MarkHidden("complete") // it is
	cmd.Flags().BoolVar(&f.printRole, "print-cluster-role", false, "print the least ClusterRole that the scan needs, and scan nothing")
	return cmd
}

func runScanCluster(cmd *cobra.Command, s Streams, f *scanClusterFlags) error {
	if _, err := parseThreshold(f.failOn); err != nil {
		return err
	}
	if isFolder("cluster") {
		_, _ = fmt.Fprintln(s.Err, "sconce: scanning the cluster; for the folder of that name: sconce scan ./cluster")
	}
	c, err := f.connect()
	if err != nil {
		return fmt.Errorf("scan cluster: %w", err)
	}
	b, eng, err := f.judgeAs(c.Version(), f.namespace)
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	kinds, problems := c.Kinds(ctx, f.wanted(eng))
	if f.printRole {
		return printRole(s, eng, kinds, f.namespace, problems)
	}
	return f.judge(cmd, s, &scanned{
		baseline: b, engine: eng, units: c.Units(kinds, f.namespace, problems...), what: "kinds",
		config: verdict.Config{Targets: []string{"cluster"}, Cluster: c.Name},
	})
}

// printRole prints the least role for the kinds.
func printRole(s Streams, e *engine.Engine, kinds []cluster.Kind, namespace string, problems []verdict.Problem) error {
	_, _ = fmt.Fprint(s.Out, cluster.Role(kinds, namespace, func(gk object.GroupKind) string {
		return strings.Join(e.Readers(gk), ", ")
	}))
	for _, p := range problems {
		_, _ = fmt.Fprintf(s.Err, "sconce: %s\n", p.Message)
	}
	if len(problems) > 0 {
		return exitCode(exitError)
	}
	return nil
}

// isSnapshot says whether a path is that of a snapshot of a cluster.
func isSnapshot(path string) bool {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false // to open a pipe would wait for who writes it
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return cluster.IsSnapshot(f)
}
