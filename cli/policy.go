// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/bundle"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/source"
)

func newPolicy(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Publish, fetch, verify and compare policies",
		Long: `Policy is about sets of policies as a whole: your own controls and baselines,
ValidatingAdmissionPolicies, Kyverno and Gatekeeper policies and Rego.

A set can be a versioned bundle in a registry of container images, signed with a
key or without one by Sigstore. Whatever takes --policies takes a bundle.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyDiff(s), newPolicyPush(s), newPolicyPull(s), newPolicySign(s), newPolicyVerify(s))
	return cmd
}

// bundlePrefix is what the reference of a bundle in a registry begins with.
const bundlePrefix = "oci://"

// policyFile is a file that may hold policies.
type policyFile struct {
	name   string // as people are told of it
	within string // below what was named, with slashes
	read   func() ([]byte, error)
	// lost says that nobody can tell whether it is a file: a link that leads
	// nowhere, or a folder that cannot be opened.
	lost bool
}

// readPolicies adds the policies that somebody named, and what stands beside them,
// which may be their parameters. What is hidden (.kyverno-test) is left out.
func readPolicies(l *baseline.Library, from string, v *bundle.Verifier) (mistakes []error, err error) {
	before, invalid := l.Documents(), len(l.InvalidPolicies())
	files, release, err := policyFiles(from, v)
	if err != nil {
		return nil, err
	}
	defer release()
	for _, f := range files {
		if err := f.add(l, l.ReadPolicyFile); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	if len(mistakes) == 0 && l.Documents() == before && len(l.InvalidPolicies()) == invalid {
		return nil, fmt.Errorf("%s holds no policy: no ValidatingAdmissionPolicy, nothing of Kyverno or Gatekeeper, no Rego and no control of your own", from)
	}
	return mistakes, nil
}

// ext is the ending of the file's name.
func (f policyFile) ext() string { return strings.ToLower(path.Ext(f.name)) }

// counts says whether a file may hold policies: a test, or what is hidden, does
// not.
func (f policyFile) counts() bool {
	ext := f.ext()
	switch {
	case hidden(f.within), strings.HasSuffix(f.name, "_test.rego"), strings.HasSuffix(f.name, ".fixture"+ext):
		return false
	}
	return f.lost && ext == "" || ext == ".rego" || f.within == "" || ext == ".yaml" || ext == ".yml" || ext == ".json"
}

// add adds what a file holds to a library, unless it is none of its matter.
func (f policyFile) add(l *baseline.Library, read func(name string, data []byte) error) error {
	if !f.counts() {
		return nil
	}
	data, err := f.read()
	if err != nil {
		return l.Unreadable(f.name, whyUnread(err))
	}
	if f.ext() == ".rego" {
		l.ReadModule(f.name, data)
		return nil
	}
	if err := read(f.name, data); err != nil {
		return err
	}
	if name := filepath.ToSlash(f.name); policy.IsData(name) {
		l.ReadData(strings.TrimSuffix(name, "/"+f.within), name, data)
	}
	return nil
}

// policyFiles returns the files of what somebody named: a file or folder, a
// bundle, or a path of a Git revision.
func policyFiles(from string, v *bundle.Verifier) (files []policyFile, release func(), err error) {
	return policyFilesIn(context.Background(), from, v)
}

// policyFilesIn is policyFiles for who may have to leave off.
func policyFilesIn(ctx context.Context, from string, v *bundle.Verifier) (files []policyFile, release func(), err error) {
	release = func() {}
	if ref, ok := strings.CutPrefix(from, bundlePrefix); ok {
		ctx, cancel := context.WithTimeout(ctx, pullTimeout)
		defer cancel()
		b, err := bundle.Pull(ctx, ref, bundle.RemoteOptions{Verify: v, UserAgent: userAgent})
		if err != nil {
			return nil, nil, err
		}
		return bundled(from, b), release, nil
	}
	info, err := os.Stat(from)
	switch {
	case err == nil && info.Mode().IsRegular() && strings.HasSuffix(from, ".tar"):
		b, err := openBundle(from, v)
		if err != nil {
			return nil, nil, err
		}
		return bundled(from, b), release, nil
	case err == nil:
		files, err = below(from, from)
		return files, release, err
	}
	revision, within, ok := strings.Cut(from, ":")
	if !ok || revision == "" {
		return nil, nil, fmt.Errorf("%s is no file or folder; of a Git revision name a path, as in main:policies, and of a bundle oci:// and its reference", from)
	}
	checkout, err := source.Checkout(revision)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", from, err)
	}
	files, err = below(filepath.Join(checkout.Base, filepath.FromSlash(within)), from)
	if err != nil {
		checkout.Remove()
		return nil, nil, fmt.Errorf("revision %s has no %s", revision, within)
	}
	return files, checkout.Remove, nil
}

const (
	pullTimeout = time.Minute
	userAgent   = "sconce"
)

// bundled are the files of a bundle.
func bundled(from string, b *bundle.Bundle) []policyFile {
	var out []policyFile
	for _, f := range b.Files {
		out = append(out, policyFile{name: from + "/" + f.Name, within: f.Name, read: func() ([]byte, error) { return f.Data, nil }})
	}
	return out
}

// below are the files at or below a path, which people know by another name.
func below(root, called string) ([]policyFile, error) {
	var out []policyFile
	err := walkConfig(root, map[string]bool{}, func(name string, lost error) error {
		within := ""
		if rel, err := filepath.Rel(root, name); err == nil && rel != "." {
			within = filepath.ToSlash(rel)
		}
		shown := name
		if called != root {
			shown = path.Join(called, within)
		}
		out = append(out, policyFile{name: shown, within: within, lost: lost != nil, read: func() ([]byte, error) {
			if lost != nil {
				return nil, lost
			}
			return source.ReadFile(name)
		}})
		return nil
	})
	return out, err
}

// whyUnread says why a file cannot be read, without its name, which stands before it.
func whyUnread(err error) string {
	var of *fs.PathError
	if errors.As(err, &of) {
		err = of.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "the link leads nowhere"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied: make it readable for this user"
	}
	return err.Error()
}

// openBundle opens a bundle that was saved to a file.
func openBundle(name string, v *bundle.Verifier) (*bundle.Bundle, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	b, err := bundle.Open(file, v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// trustFlags say whose signatures of bundles are accepted.
type trustFlags struct {
	keys                  []string
	trustedRoot           string
	issuer, issuerRegexp  string
	subject, subjectRegex string
}

func (f *trustFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.keys, "policy-key", nil, "file of a public key by which bundles of policies must be signed; can be repeated")
	flags.StringVar(&f.trustedRoot, "policy-trusted-root", "", "trusted_root.json of Sigstore for signatures without a key; nothing is fetched")
	flags.StringVar(&f.issuer, "policy-issuer", "", "who vouches for the signer of a signature without a key")
	flags.StringVar(&f.issuerRegexp, "policy-issuer-regexp", "", "the same as a regular expression")
	flags.StringVar(&f.subject, "policy-signer", "", "who must have signed without a key: an address, or a workflow")
	flags.StringVar(&f.subjectRegex, "policy-signer-regexp", "", "the same as a regular expression")
}

// verifier returns what holds signatures against the flags; nil where none are
// asked for.
func (f *trustFlags) verifier() (*bundle.Verifier, error) {
	identity := bundle.Identity{Issuer: f.issuer, IssuerRegexp: f.issuerRegexp, Subject: f.subject, SubjectRegexp: f.subjectRegex}
	if len(f.keys) == 0 && f.trustedRoot == "" && identity == (bundle.Identity{}) {
		return nil, nil //nolint:nilnil // nothing was asked for
	}
	var o bundle.VerifierOptions
	for _, name := range f.keys {
		key, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--policy-key: %w", err)
		}
		o.Keys = append(o.Keys, key)
	}
	if identity != (bundle.Identity{}) {
		o.Identities = []bundle.Identity{identity}
	}
	if f.trustedRoot != "" {
		root, err := os.ReadFile(f.trustedRoot)
		if err != nil {
			return nil, fmt.Errorf("--policy-trusted-root: %w", err)
		}
		o.TrustedRoot = root
	}
	return bundle.NewVerifier(o)
}

// errUnverified is for commands that must be told whose signatures to accept.
var errUnverified = errors.New("whose signature is to be accepted? name --policy-key, or --policy-trusted-root with --policy-issuer and --policy-signer")
