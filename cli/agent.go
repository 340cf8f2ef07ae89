// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"sconce.dev/sconce/agent"
	"sconce.dev/sconce/bundle"
)

// agentFlags are what an agent is told, beside what it is told by Baselines.
type agentFlags struct {
	agent.Options
	trustFlags
	policies            []string
	kubeconfig, context string
	logFormat           string
	verbose             bool
}

func newAgent(s Streams) *cobra.Command {
	f := &agentFlags{}
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Enforce and audit a baseline in a cluster, as a long-running process",
		Long: `Agent runs in a cluster. It answers the API server's admission webhooks by the
Baseline that is in force, audits what is there as it changes, writes reports,
and tells of drift: what was changed against the baseline, by whom, and what
undoes it.

Baselines, Controls, Exceptions and Frameworks are objects of the cluster. What
is not valid is said in their status, and the last good set stays in force.

Of several replicas all answer the API server; one audits and writes. The chart
in charts/sconce installs it with the rights that it needs.`,
		Example: `  sconce agent --namespace sconce --webhook-service sconce --leader-elect
  sconce agent --kubeconfig ~/.kube/config --namespace sconce --webhook-url https://192.0.2.7:9443`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAgent(cmd.Context(), s, f) },
	}
	f.register(cmd)
	return cmd
}

func (f *agentFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "file of the clusters that are known (default: in a pod its ServiceAccount; else $KUBECONFIG, ~/.kube/config)")
	flags.StringVar(&f.context, "context", "", "context of the kubeconfig, instead of its current one")
	flags.StringVar(&f.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "the agent's own namespace (default: $POD_NAMESPACE)")
	flags.StringVarP(&f.Baseline, "baseline", "b", "cluster", "name of the Baseline object that is enforced")
	flags.StringVar(&f.WebhookAddress, "webhook-address", ":9443", "where the API server is answered")
	flags.StringVar(&f.WebhookService, "webhook-service", "", "Service in the agent's namespace by which the API server calls the webhook")
	flags.StringVar(&f.WebhookURL, "webhook-url", "", "what the webhook's address begins with, for an agent outside of the cluster: https://192.0.2.7:9443")
	flags.StringVar(&f.WebhookClientCA, "webhook-client-ca", "", "file of the authorities that must have signed the certificate that a caller of the webhook shows; empty asks for none")
	flags.StringSliceVar(&f.WebhookClients, "webhook-clients", nil, "common names of the certificates that may ask (default: every one of these authorities)")
	flags.StringVar(&f.MetricsAddress, "metrics-address", ":8080", "where /metrics is; empty for nowhere")
	flags.StringVar(&f.HealthAddress, "health-address", ":8081", "where /healthz and /readyz are; empty for nowhere")
	flags.DurationVar(&f.Drain, "drain", 5*time.Second, "how long requests are still taken after the end was asked for")
	flags.BoolVar(&f.LeaderElect, "leader-elect", false, "let one of several replicas audit and write")
	flags.BoolVar(&f.Mutate, "mutate", false, "make fixes in what is created, for controls with remediate: true")
	flags.BoolVar(&f.Remediate, "remediate", false, "make fixes in what is in the cluster, for controls with remediate: true; sconce rollback takes them back")
	flags.StringVar(&f.Reports, "reports", "openreports", "reports that are written: openreports, policyreports or none")
	flags.DurationVar(&f.ReportInterval, "report-interval", agent.DefaultReportInterval, "how long changes are gathered before reports are written")
	flags.StringSliceVar(&f.Exempt, "exempt-namespaces", []string{"kube-system", "kube-node-lease"}, "namespaces that the webhook is not asked about, beside the agent's own")
	flags.BoolVar(&f.ReadSecrets, "read-secrets", false, "read Secrets, for the controls about them; without, these say unknown")
	flags.StringArrayVarP(&f.policies, "policies", "p", nil, "file or folder of policies in other languages, or oci:// and a bundle's reference, that are enforced and audited as they say themselves; what changes there comes into force; can be repeated")
	flags.BoolVar(&f.ClusterPolicies, "cluster-policies", false, "audit the policies that are installed in the cluster, too: ValidatingAdmissionPolicies, Kyverno's and Gatekeeper's")
	f.trustFlags.register(cmd)
	flags.StringVar(&f.logFormat, "log-format", "json", "json or text")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log also what is only of use to who looks for a fault")
}

func runAgent(ctx context.Context, s Streams, f *agentFlags) error {
	logger, err := f.logger(s.Err)
	if err != nil {
		return err
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context}).ClientConfig()
	if err != nil {
		return fmt.Errorf("agent: reading the kubeconfig: %w", err)
	}
	f.Config, f.Log = config, logger
	v, err := f.verifier()
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	for _, from := range f.policies {
		f.Policies = append(f.Policies, policySource(from, v))
	}
	// GOMEMLIMIT is the container's limit, which must also hold what Go does not
	// count.
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	return agent.Run(ctx, f.Options)
}

// How often policies are read again: what is mounted changes by itself, and to
// ask a registry costs both sides something.
const (
	readFolderEvery = 10 * time.Second
	pullBundleEvery = 10 * time.Minute
)

// policySource is where an agent reads policies from.
func policySource(from string, v *bundle.Verifier) agent.PolicySource {
	every := readFolderEvery
	if strings.HasPrefix(from, bundlePrefix) {
		every = pullBundleEvery
	}
	return agent.PolicySource{Name: from, Every: every, Read: func(ctx context.Context) ([]agent.PolicyFile, error) { return agentFiles(ctx, from, v) }}
}

// agentFiles are the files of a source that may hold policies.
func agentFiles(ctx context.Context, from string, v *bundle.Verifier) ([]agent.PolicyFile, error) {
	files, release, err := policyFilesIn(ctx, from, v)
	if err != nil {
		return nil, err
	}
	defer release()
	var out []agent.PolicyFile
	for _, f := range files {
		if !f.counts() {
			continue
		}
		data, err := f.read()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		out = append(out, agent.PolicyFile{Name: f.name, Data: data})
	}
	return out, nil
}

// logger returns a logger, which also takes what the libraries say.
func (f *agentFlags) logger(to io.Writer) (*slog.Logger, error) {
	opts := &slog.HandlerOptions{Level: slog.LevelInfo}
	if f.verbose {
		opts.Level = slog.LevelDebug
	}
	var handler slog.Handler
	switch strings.ToLower(f.logFormat) {
	case "json":
		handler = slog.NewJSONHandler(to, opts)
	case "text":
		handler = slog.NewTextHandler(to, opts)
	default:
		return nil, fmt.Errorf("agent: unknown --log-format %q; want json or text", f.logFormat)
	}
	libraries := logr.FromSlogHandler(handler)
	klog.SetLogger(libraries)
	log.SetLogger(libraries)
	return slog.New(handler), nil
}
