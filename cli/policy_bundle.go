// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/bundle"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/all"
)

// registryFlags say how a registry is reached.
type registryFlags struct{ plainHTTP bool }

func (f *registryFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.plainHTTP, "plain-http", false, "speak to the registry without encryption; on this machine that is done anyway")
}

func (f *registryFlags) options(v *bundle.Verifier) bundle.RemoteOptions {
	return bundle.RemoteOptions{PlainHTTP: f.plainHTTP, UserAgent: userAgent, Verify: v}
}

// reference is a reference of a registry, with or without oci://.
func reference(arg string) string { return strings.TrimPrefix(arg, bundlePrefix) }

type policyPushFlags struct {
	registryFlags
	name, version, key, file string
}

func newPolicyPush(s Streams) *cobra.Command {
	f := &policyPushFlags{}
	cmd := &cobra.Command{
		Use:   "push FOLDER [REFERENCE]",
		Short: "Publish a folder of policies as a versioned bundle",
		Long: `Push packs the YAML, JSON, Rego and text files of a folder into an OCI artifact,
checks that its policies can be read, and pushes it to a registry; the same files
give the same digest. With --sign-key it is signed, and the signature is kept beside
it in the registry. Credentials are those of docker login.

With --output-file it is written to a file, which --policies and policy pull take.`,
		Example: `  sconce policy push policies/ oci://registry.example.com/policies:1.4.0 --sign-key policies.key
  sconce policy push policies/ --version 1.4.0 --output-file policies.tar`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return runPolicyPush(cmd, s, f, args) },
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "name of the bundle (default: the last part of the reference, or the folder's)")
	flags.StringVar(&f.version, "version", "", "version of the bundle (default: the reference's tag)")
	flags.StringVar(&f.key, "sign-key", "", "file of a private key to sign with, as openssl or cosign write it; an encrypted one needs COSIGN_PASSWORD")
	flags.StringVar(&f.file, "output-file", "", "write the bundle to this file, and push nothing")
	return cmd
}

// build packs the folder that the arguments name.
func (f *policyPushFlags) build(args []string) (*bundle.Bundle, error) {
	name, version := f.name, f.version
	if len(args) == 2 {
		repository, tag := reference(args[1]), ""
		if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
			repository, tag = repository[:i], repository[i+1:]
		}
		name, version = cmp.Or(name, repository[strings.LastIndexByte(repository, '/')+1:]), cmp.Or(version, tag)
	}
	if abs, err := filepath.Abs(args[0]); err == nil {
		name = cmp.Or(name, strings.ToLower(filepath.Base(abs)))
	}
	if version == "" {
		return nil, fmt.Errorf("which version is it? name a tag, as in oci://registry.example.com/policies:1.4.0, or --version")
	}
	created, err := sourceDate()
	if err != nil {
		return nil, err
	}
	if !isFolder(args[0]) {
		return nil, fmt.Errorf("%s is no folder: name the one that holds the policies", args[0])
	}
	b, err := bundle.Build(os.DirFS(args[0]), bundle.BuildOptions{Name: name, Version: version, Created: created})
	if err != nil {
		return nil, err
	}
	return b, checkBundle(b)
}

// sourceDate is when what is packed was made, as reproducible builds say it.
func sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q; want seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// checkBundle reads the policies of a bundle, so that none is published that
// cannot be used.
func checkBundle(b *bundle.Bundle) error {
	l := baseline.NewLibrary()
	catalog.Read(l)
	l.ReadPolicies(all.Reader{}, policy.Options{})
	before := l.Documents()
	for _, f := range bundled(b.Name, b) {
		if err := f.add(l, l.ReadPolicyFile); err != nil {
			return err
		}
	}
	if err := l.Check(time.Time{}); err != nil {
		return fmt.Errorf("the policies have mistakes; nothing was published:\n%w", err)
	}
	if l.Documents() == before {
		return fmt.Errorf("there is no policy and no control in it")
	}
	return nil
}

// signer reads the private key that the flag names; nil for none.
func signer(file string) (bundle.Signer, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--sign-key: %w", err)
	}
	return bundle.ParsePrivateKey(data, func() ([]byte, error) { return []byte(os.Getenv("COSIGN_PASSWORD")), nil })
}

func runPolicyPush(cmd *cobra.Command, s Streams, f *policyPushFlags, args []string) error {
	if (len(args) == 2) == (f.file != "") {
		return fmt.Errorf("name either a reference to push to, as in oci://registry.example.com/policies:1.4.0, or --output-file")
	}
	key, err := signer(f.key)
	if err != nil {
		return err
	}
	b, err := f.build(args)
	if err != nil {
		return fmt.Errorf("policy push: %w", err)
	}
	ctx, stop := interruptible()
	defer stop()
	if f.file != "" {
		var signatures [][]byte
		if key != nil {
			signature, err := b.Sign(ctx, key)
			if err != nil {
				return fmt.Errorf("policy push: %w", err)
			}
			signatures = append(signatures, signature)
		}
		if err := toFile(cmd, f.file, s.Out, func(to io.Writer, _ bool) error { return b.Save(to, signatures...) }); err != nil {
			return fmt.Errorf("policy push: %w", err)
		}
		_, _ = fmt.Fprintf(s.Out, "%s %s, %d files: %s\n%s\n", b.Name, b.Version, len(b.Files), f.file, b.Digest)
		return nil
	}
	ref := reference(args[1])
	digest, err := bundle.Push(ctx, ref, b, f.options(nil))
	if err != nil {
		return fmt.Errorf("policy push: %w", err)
	}
	if key != nil {
		if _, err := bundle.Sign(ctx, ref, key, f.options(nil)); err != nil {
			return fmt.Errorf("policy push: it was pushed as %s, and not signed: %w", digest, err)
		}
	}
	_, _ = fmt.Fprintf(s.Out, "%s %s, %d files: %s%s\n%s\n", b.Name, b.Version, len(b.Files), bundlePrefix, ref, digest)
	return nil
}

type policyPullFlags struct {
	registryFlags
	trustFlags
	dir string
}

func newPolicyPull(s Streams) *cobra.Command {
	f := &policyPullFlags{}
	cmd := &cobra.Command{
		Use:   "pull REFERENCE|FILE.tar -d FOLDER",
		Short: "Fetch a bundle of policies into a folder",
		Example: `  sconce policy pull oci://registry.example.com/policies:1.4.0 -d policies --policy-key policies.pub
  sconce policy pull policies.tar -d policies`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return runPolicyPull(s, f, args[0]) },
	}
	f.registryFlags.register(cmd)
	f.trustFlags.register(cmd)
	cmd.Flags().StringVarP(&f.dir, "dir", "d", "", "folder to write to, which is made and must be empty")
	_ = cmd.MarkFlagRequired("dir")
	return cmd
}

func runPolicyPull(s Streams, f *policyPullFlags, from string) error {
	v, err := f.verifier()
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	var b *bundle.Bundle
	if info, statErr := os.Stat(from); statErr == nil && info.Mode().IsRegular() {
		b, err = openBundle(from, v)
	} else {
		b, err = bundle.Pull(ctx, reference(from), f.options(v))
	}
	if err != nil {
		return fmt.Errorf("policy pull: %w", err)
	}
	if err := b.Extract(f.dir); err != nil {
		return fmt.Errorf("policy pull: %w", err)
	}
	if v == nil {
		_, _ = fmt.Fprintln(s.Err, "sconce: nobody's signature was asked for; --policy-key names a public key")
	}
	_, _ = fmt.Fprintf(s.Out, "%s %s, %d files: %s\n%s\n", b.Name, b.Version, len(b.Files), f.dir, b.Digest)
	return nil
}

func newPolicySign(s Streams) *cobra.Command {
	var f registryFlags
	var key string
	cmd := &cobra.Command{
		Use:     "sign REFERENCE --sign-key FILE",
		Short:   "Sign a bundle of policies that is in a registry",
		Example: "  sconce policy sign oci://registry.example.com/policies:1.4.0 --sign-key policies.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			k, err := signer(key)
			if err != nil {
				return err
			}
			ctx, stop := interruptible()
			defer stop()
			digest, err := bundle.Sign(ctx, reference(args[0]), k, f.options(nil))
			if err != nil {
				return fmt.Errorf("policy sign: %w", err)
			}
			_, _ = fmt.Fprintln(s.Out, digest)
			return nil
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&key, "sign-key", "", "file of a private key to sign with, as openssl or cosign write it; an encrypted one needs COSIGN_PASSWORD")
	_ = cmd.MarkFlagRequired("sign-key")
	return cmd
}

func newPolicyVerify(s Streams) *cobra.Command {
	f := &policyPullFlags{}
	cmd := &cobra.Command{
		Use:     "verify REFERENCE|FILE.tar",
		Short:   "Say whether a bundle of policies is signed by whom it must be",
		Example: "  sconce policy verify oci://registry.example.com/policies:1.4.0 --policy-key policies.pub",
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return runPolicyVerify(s, f, args[0]) },
	}
	f.registryFlags.register(cmd)
	f.trustFlags.register(cmd)
	return cmd
}

func runPolicyVerify(s Streams, f *policyPullFlags, from string) error {
	v, err := f.verifier()
	if err != nil {
		return err
	}
	if v == nil {
		return errUnverified
	}
	ctx, stop := interruptible()
	defer stop()
	digest := ""
	if info, statErr := os.Stat(from); statErr == nil && info.Mode().IsRegular() {
		b, openErr := openBundle(from, v)
		if err = openErr; err == nil {
			digest = b.Digest
		}
	} else {
		digest, err = bundle.Verify(ctx, reference(from), v, f.options(nil))
	}
	if err != nil {
		return fmt.Errorf("policy verify: %w", err)
	}
	_, _ = fmt.Fprintf(s.Out, "%s\nits signature holds\n", digest)
	return nil
}
