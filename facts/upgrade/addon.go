// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"strings"
	"sync"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// components are the images of Kubernetes itself.
var components = map[string]bool{
	"kube-apiserver": true, "kube-controller-manager": true, "kube-scheduler": true, "kube-proxy": true,
}

// addonTable finds products by the last part of an image's repository, and by
// the last two.
var addonTable = sync.OnceValue(func() map[string]*product {
	out := map[string]*product{}
	file := addons()
	for i := range file.Addons {
		for _, name := range file.Addons[i].Images {
			out[name] = &file.Addons[i]
		}
	}
	return out
})

// reference is an image: the last part of its repository, the last two, and the
// tag.
type reference struct{ last, two, tag string }

// parseImage reads registry/path/name:tag@digest.
func parseImage(image string) reference {
	name, _, _ := strings.Cut(image, "@")
	var r reference
	slash := strings.LastIndexByte(name, '/')
	r.last = name[slash+1:]
	if colon := strings.IndexByte(r.last, ':'); colon >= 0 {
		r.last, r.tag = r.last[:colon], r.last[colon+1:]
	}
	r.two = r.last
	if slash >= 0 {
		parent := name[:slash]
		r.two = parent[strings.LastIndexByte(parent, '/')+1:] + "/" + r.last
	}
	return r
}

// imageFacts returns what is known of an image.
func imageFacts(o *object.Object, image string, at func() object.Path, env *facts.Env) []*object.Object {
	r := parseImage(image)
	if components[r.last] {
		return component(o, at(), running{name: r.last, version: r.tag}, env)
	}
	p := addonTable()[r.last]
	if p == nil {
		p = addonTable()[r.two]
	}
	if p == nil {
		return nil
	}
	file := addons()
	out := []object.Field{text("name", p.Name), text("image", image)}
	v, rest, ok := parseVersion(strings.TrimPrefix(r.tag, "nginx-"))
	if !ok && !p.Retired.known() {
		why := "which version " + image + " is; its tag does not say"
		out = append(out, unknown("version", why), yes("tracked", len(p.Series) > 0), text("retired", ""), yes("supported", false))
		out = append(out, unknownEnd(why)...)
		out = append(out, unknown("flaws", why), unknown("conditional", why), unknown("unless", why))
		return []*object.Object{about("AddOn", o, at(), append(out, file.age(env)...)...)}
	}
	c := circumstances{}
	if strings.Contains(rest, "eks") || strings.Contains(rest, "gke") {
		c.builder = "the cloud provider"
	}
	out = append(out, text("version", r.tag))
	out = append(out, p.life(v, c.builder, &file.header, env)...)
	out = append(out, flawFields(p.Flaws, v, c)...)
	return []*object.Object{about("AddOn", o, at(), append(out, file.age(env)...)...)}
}
