// SPDX-License-Identifier: Apache-2.0

// Package kustomize builds a Kustomize overlay and says for every field of what
// comes out which line of which base or patch a person edits.
//
// It uses Kustomize as a library. It fetches nothing (a remote base is an
// error that says to vendor it), runs no plugins, and inflates Helm charts only
// where it is told to and given a command that renders them. It does not
// protect against an overlay that takes for ever: package render does.
package kustomize

import (
	"fmt"
	"path/filepath"
	"slices"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"sconce.dev/sconce/object"
)

// Options say how an overlay is built.
type Options struct {
	// EnableHelm inflates helmCharts with HelmCommand, a program that answers
	// as `helm version` and `helm template` do.
	EnableHelm  bool   `json:"enableHelm,omitempty"`
	HelmCommand string `json:"helmCommand,omitempty"`
	// KubeVersion and APIVersions are what inflated charts see.
	KubeVersion string   `json:"kubeVersion,omitempty"`
	APIVersions []string `json:"apiVersions,omitempty"`
	// Root is the folder that nothing may be read outside of: the repository.
	// Empty: anywhere on disk, as Kustomize itself does for bases.
	Root string `json:"root,omitempty"`
}

// Rendered is what an overlay builds to. It is plain data.
type Rendered struct {
	// Dir is the overlay's folder, absolute and resolved.
	Dir     string `json:"dir"`
	Objects []Obj  `json:"objects,omitempty"`
	// Files are the files that the build read, absolute and sorted: resources,
	// patches, what generators read, and every kustomization file.
	Files []string `json:"files,omitempty"`
	// Kustomizations are the kustomization files among them, the top one first.
	Kustomizations []string `json:"kustomizations,omitempty"`
}

// Obj is one object that was built.
type Obj struct {
	// Ref names the object as it was built.
	Ref object.Ref `json:"ref"`
	// Text is the object as YAML.
	Text []byte `json:"text"`
	// Origin is the file that the object was read from, absolute; empty for one
	// that was generated.
	Origin string `json:"origin,omitempty"`
	// Generator is the kind of what generated it (ConfigMapGenerator,
	// HelmChartInflationGenerator), and ConfiguredIn the file that asks for it.
	Generator    string `json:"generator,omitempty"`
	ConfiguredIn string `json:"configuredIn,omitempty"`
}

// Build builds the overlay in a folder. What is wrong with it comes back as an
// *Error.
func Build(dir string, opts Options) (out *Rendered, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, &Error{File: dir, Msg: fmt.Sprintf("kustomize broke on this overlay: %v", r)}
		}
	}()
	top, err := resolve(dir)
	if err != nil {
		return nil, &Error{File: dir, Msg: plain(err)}
	}
	c := checker{opts: opts, seen: map[string]bool{}}
	if opts.Root != "" {
		if c.root, err = resolve(opts.Root); err != nil {
			return nil, &Error{File: opts.Root, Msg: plain(err)}
		}
	}
	if err := c.check(top, nil); err != nil {
		return nil, err
	}
	fsys := newDisk(top, c.root)
	built, err := krusty.MakeKustomizer(settings(opts)).Run(fsys, top)
	if err != nil {
		return nil, c.explain(top, err)
	}
	out = &Rendered{Dir: top, Kustomizations: c.files}
	for _, r := range built.Resources() {
		o, err := toObj(top, r)
		if err != nil {
			return nil, &Error{File: c.files[0], Msg: err.Error()}
		}
		out.Objects = append(out.Objects, o)
	}
	out.Files = fsys.list()
	return out, nil
}

// settings are Kustomize's own defaults, plugins disabled, with Helm if asked.
func settings(opts Options) *krusty.Options {
	k := krusty.MakeDefaultOptions()
	k.PluginConfig = types.MakePluginConfig(types.PluginRestrictionsBuiltinsOnly, types.BploUseStaticallyLinked)
	k.PluginConfig.HelmConfig = types.HelmConfig{
		Enabled: opts.EnableHelm, Command: opts.HelmCommand, KubeVersion: opts.KubeVersion, ApiVersions: opts.APIVersions,
	}
	return k
}

// toObj takes an object out of Kustomize's hands, without the annotation that
// Build had it write.
func toObj(top string, r *resource.Resource) (Obj, error) {
	var o Obj
	origin, err := r.GetOrigin()
	if err != nil {
		return o, err
	}
	if origin != nil {
		if origin.Path != "" {
			o.Origin = absolute(top, origin.Path)
		}
		if origin.ConfiguredIn != "" {
			o.ConfiguredIn = absolute(top, origin.ConfiguredIn)
		}
		o.Generator = origin.ConfiguredBy.Kind
	}
	if err := r.SetOrigin(nil); err != nil {
		return o, err
	}
	o.Ref = object.Ref{APIVersion: r.GetApiVersion(), Kind: r.GetKind(), Namespace: r.GetNamespace(), Name: r.GetName()}
	o.Text, err = r.AsYAML()
	return o, err
}

func absolute(top, name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(top, name)
}

// resolve returns a path without symbolic links.
func resolve(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

var _ filesys.FileSystem = (*disk)(nil)

func sortedSet(names map[string]bool) []string {
	out := make([]string, 0, len(names))
	for name := range names {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
