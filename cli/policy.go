// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/source"
)

func newPolicy(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Publish, fetch and compare policies",
		Long: `Policy is about sets of policies as a whole: your own controls and baselines, and
ValidatingAdmissionPolicies, Kyverno and Gatekeeper policies and Rego.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyDiff(s))
	return cmd
}

// policyPath is where the policies are that somebody named: a file or folder, or
// what stands at a path of a Git revision (main:policies).
func policyPath(arg string) (path string, release func(), err error) {
	nothing := func() {}
	if _, err := os.Stat(arg); err == nil {
		return arg, nothing, nil
	}
	revision, within, ok := strings.Cut(arg, ":")
	if !ok || revision == "" {
		return "", nothing, fmt.Errorf("%s is no file or folder; of a Git revision, name a path, as in main:policies", arg)
	}
	checkout, err := source.Checkout(revision)
	if err != nil {
		return "", nothing, fmt.Errorf("%s: %w", arg, err)
	}
	path = filepath.Join(checkout.Base, filepath.FromSlash(within))
	if _, err := os.Stat(path); err != nil {
		checkout.Remove()
		return "", nothing, fmt.Errorf("%s: revision %s has no %s", arg, revision, within)
	}
	return path, checkout.Remove, nil
}
