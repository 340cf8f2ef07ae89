// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/source/kustomize"
	"sconce.dev/sconce/verdict"
)

// ownership says which files belong to which overlay.
type ownership struct {
	tops  map[string]bool // overlays that are rendered, by real path
	names map[string]bool // everything that an overlay names, by real path
	count map[string]int  // files that a top overlay names, each counted once
}

// overlays works out which overlays are rendered and what belongs to them.
func (d *discovery) overlays() *ownership {
	o := &ownership{tops: map[string]bool{}, names: map[string]bool{}, count: map[string]int{}}
	var dirs []string
	for _, f := range d.found {
		if f.what == overlayDir {
			dirs = append(dirs, f.real)
		}
	}
	if len(dirs) == 0 {
		return o
	}
	for _, root := range kustomize.Roots(dirs) {
		// What a component names belongs to an overlay, even one that is not
		// among what is scanned.
		for _, name := range kustomize.Owned(root.Dir) {
			if root.Top() && !o.names[name] && isManifest(name) {
				o.count[root.Dir]++
			}
			o.names[name] = true
		}
		o.tops[root.Dir] = root.Top()
	}
	return o
}

func (o *ownership) owns(real string) bool { return o.names[real] }
func (o *ownership) top(real string) bool  { return o.tops[real] }
func (o *ownership) owned(real string) int { return o.count[real] }

// overlay is a Kustomize overlay.
type overlay struct {
	found
	opts  *Options
	owned int
}

// Read implements snapshot.Unit.
func (v *overlay) Read(ctx context.Context, sink snapshot.Sink) snapshot.Tally {
	tally := snapshot.Tally{Overlays: 1, Owned: v.owned}
	rendered, err := v.opts.Renderer.Overlay(ctx, v.path, v.opts.Kustomize)
	if err != nil {
		sink.Problem(v.renderProblem(err))
		return tally
	}
	locator := kustomize.NewLocator(rendered)
	for i := range rendered.Objects {
		v.object(&rendered.Objects[i], locator, sink)
	}
	return tally
}

func (v *overlay) renderProblem(err error) verdict.Problem {
	p := problemf(verdict.Rendering, v.name, "%s", err)
	var ke *kustomize.Error
	if errors.As(err, &ke) {
		p.Message = ke.Msg
		if ke.File != "" {
			p.Position = object.Position{File: v.shown(ke.File), Line: ke.Line, Column: ke.Col}
		}
	}
	p.Message = verdict.Redact(fmt.Sprintf("building the overlay %s: %s", v.name, v.opts.relative(p.Message)))
	return p
}

// object yields one object that the overlay built.
func (v *overlay) object(obj *kustomize.Obj, locator *kustomize.Locator, sink snapshot.Sink) {
	for text := range object.Split(obj.Text) {
		root, err := object.ParseYAML(text)
		if err != nil || root == nil {
			sink.Problem(problemf(verdict.Rendering, v.name, "building the overlay %s: it built an object that cannot be read again: %v", v.name, err))
			continue
		}
		origin := &object.Origin{Source: v.name, Renderer: "kustomize", Text: text.Bytes, FirstLine: text.Line}
		built, err := object.FromNode(root, origin)
		if err != nil || len(built) != 1 {
			objects(root, origin, nil, sink) // no object, or a List: the overlay is all that is known
			continue
		}
		locate := locator.Locate(*obj, built[0].Ref)
		origin.Locate = func(root *object.Node, path object.Path) object.Position {
			p := locate(root, path)
			p.File = v.shown(p.File)
			return p
		}
		sink.Object(built[0])
	}
}

// shown returns a file of the build as it is shown: by the way from the
// overlay's folder as the user named it.
func (v *overlay) shown(file string) string {
	if !filepath.IsAbs(file) {
		return v.opts.shown(file)
	}
	rel, err := filepath.Rel(v.real, file)
	if err != nil {
		return file
	}
	name := filepath.Join(v.name, rel)
	if strings.HasPrefix(name, "..") && strings.Count(rel, "..") > strings.Count(v.real, string(filepath.Separator)) {
		return file
	}
	return name
}
