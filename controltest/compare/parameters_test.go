// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/api/v1alpha1"
)

// gatekeeperObject is what decides about an object under test whether it is
// compared.
type gatekeeperObject struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Containers, InitContainers, EphemeralContainers []struct{ Image string }
	}
}

// Pseudo-rules for cases that are no verdict on an object.
const (
	gatekeeperRequest = "AdmissionReview" // a request, which may be an update
	gatekeeperExempt  = "exemptImages"    // an image that the constraint exempts
	gatekeeperNothing = "no parameters"   // a constraint that asks for nothing
)

// setting turns the parameters of a constraint into what they mean for our
// controls.
type setting func(c *caze, p *constraintParameters)

// constraintParameters are the parameters of a constraint.
type constraintParameters struct {
	Repos, AllowedImages, ExemptImages, Tags, AllowedIPs, AllowedRoles []string
	RequiredDropCapabilities, AllowedStorageClasses, AllowedProfiles   []string
	ForbiddenSysctls                                                   []string
	AllowedSysctls                                                     *[]string
	// Of containerresources lists of resources; of other templates quantities.
	Limits, Requests      []string
	CPU, Memory           string
	EphemeralStorage      string `json:"ephemeral-storage"`
	DisallowAuthenticated bool
	TLSOptional           bool `json:"tlsOptional"`
	HostNetwork           bool
	Min, Max              int
	K8sVersion            any `json:"k8sVersion"`
	AllowedHostPaths      []struct{ PathPrefix string }
	AllowedFlexVolumes    []struct{ Driver string }
}

// gatekeeperSettings says what the parameters of a constraint mean for our
// controls: which of a rule's are asked for, and with which parameters.
func gatekeeperSettings(c *caze, constraint []byte, o *gatekeeperObject) error {
	var doc struct {
		Spec struct{ Parameters constraintParameters }
	}
	if err := yaml.Unmarshal(constraint, &doc); err != nil {
		return err
	}
	p := &doc.Spec.Parameters
	switch {
	case o.Kind == "AdmissionReview":
		c.rule = gatekeeperRequest
	case exempts(p.ExemptImages, o):
		c.rule = gatekeeperExempt
	default:
		if f := settings[c.rule]; f != nil {
			f(c, p)
		}
	}
	return nil
}

// exempts says whether an image of an object is exempt.
func exempts(images []string, o *gatekeeperObject) bool {
	for _, k := range slices.Concat(o.Spec.Containers, o.Spec.InitContainers, o.Spec.EphemeralContainers) {
		for _, e := range images {
			if prefix, ok := strings.CutSuffix(e, "*"); k.Image == e || ok && strings.HasPrefix(k.Image, prefix) {
				return true
			}
		}
	}
	return false
}

// only narrows a case to some controls of its rule.
func (c *caze) only(controls ...string) { c.controls = append(c.controls, controls...) }

// set gives a parameter of a control a value; none for what a constraint leaves
// out.
func (c *caze) set(control, parameter string, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	if string(data) == "null" {
		return
	}
	if c.parameters == nil {
		c.parameters = map[string]map[string]v1alpha1.Value{}
	}
	if c.parameters[control] == nil {
		c.parameters[control] = map[string]v1alpha1.Value{}
	}
	c.parameters[control][parameter] = v1alpha1.Value{RawMessage: data}
}

// ignored is a quantity that a constraint does not limit.
const ignored = "-1"

// maximum asks for a control with a maximum, unless it is ignored.
func (c *caze) maximum(control, quantity string) {
	if quantity != ignored {
		c.only(control)
		c.set(control, "maximum", quantity)
	}
}

var settings = map[string]setting{
	"allowedrepos": func(c *caze, p *constraintParameters) { c.set("image-registry", "registries", registries(p.Repos)) },
	"allowedreposv2": func(c *caze, p *constraintParameters) {
		c.set("image-registry", "registries", registries(p.AllowedImages))
	},
	"disallowedrepos": func(c *caze, p *constraintParameters) {
		c.set("image-registry", "denied", registries(p.Repos))
	},
	"disallowedtags": func(c *caze, p *constraintParameters) { c.set("image-tag-latest", "tags", p.Tags) },
	"containerlimits": func(c *caze, p *constraintParameters) {
		c.maximum("cpu-limit", p.CPU)
		c.maximum("memory-limit", p.Memory)
	},
	"containerrequests": func(c *caze, p *constraintParameters) {
		c.maximum("cpu-request", p.CPU)
		c.maximum("memory-request", p.Memory)
	},
	"containerresources": func(c *caze, p *constraintParameters) {
		for _, r := range p.Limits {
			c.only(r + "-limit")
		}
		for _, r := range p.Requests {
			c.only(r + "-request")
		}
		if c.controls == nil {
			c.rule = gatekeeperNothing
		}
	},
	"ephemeralstoragelimit": func(c *caze, p *constraintParameters) { c.maximum("ephemeral-storage-limit", p.EphemeralStorage) },
	"disallowanonymous": func(c *caze, p *constraintParameters) {
		roles := append([]string{}, p.AllowedRoles...)
		c.only("anonymous-binding")
		c.set("anonymous-binding", "roles", roles)
		if p.DisallowAuthenticated {
			c.only("authenticated-binding")
			c.set("authenticated-binding", "roles", roles)
		}
	},
	"externalip": func(c *caze, p *constraintParameters) { c.set("external-ips", "allowed", p.AllowedIPs) },
	"httpsonly": func(c *caze, p *constraintParameters) {
		c.only("ingress-plain-http")
		c.set("ingress-plain-http", "everywhere", true)
		if !p.TLSOptional {
			c.only("ingress-tls")
		}
	},
	"storageclass": func(c *caze, p *constraintParameters) {
		c.set("storage-class", "classes", p.AllowedStorageClasses)
		c.set("storage-class-of-template", "classes", p.AllowedStorageClasses)
		if p.AllowedStorageClasses == nil {
			c.rule = "storageclass without a list"
		}
	},
	"verifydeprecatedapi": func(c *caze, p *constraintParameters) {
		c.kubernetesVersion = anyVersion.FindString(fmt.Sprint(p.K8sVersion))
	},
	"capabilities": func(c *caze, p *constraintParameters) {
		c.only("capabilities-beyond-default")
		if len(p.RequiredDropCapabilities) > 0 {
			c.controls = []string{"capabilities-added-restricted", "capabilities-drop-all"}
		}
	},
	"flexvolume-drivers": func(c *caze, p *constraintParameters) {
		var drivers []string
		for _, v := range p.AllowedFlexVolumes {
			drivers = append(drivers, v.Driver)
		}
		c.set("git-repo-or-flex-volume", "drivers", drivers)
	},
	"forbidden-sysctls": func(c *caze, p *constraintParameters) {
		forbidden := append([]string{}, p.ForbiddenSysctls...)
		if p.AllowedSysctls != nil && len(*p.AllowedSysctls) == 0 {
			forbidden = []string{"*"}
		}
		c.set("forbidden-sysctl", "sysctls", forbidden)
	},
	"host-filesystem": func(c *caze, p *constraintParameters) {
		paths := []string{}
		for _, v := range p.AllowedHostPaths {
			paths = append(paths, v.PathPrefix)
		}
		c.set("host-path-volume", "allowed", paths)
	},
	"host-network-ports": func(c *caze, p *constraintParameters) {
		if p.Max > 0 {
			c.only("host-port")
			c.set("host-port", "allowed", []string{fmt.Sprintf("%d-%d", p.Min, p.Max)})
		}
		if !p.HostNetwork {
			c.only("host-network")
		}
	},
	"seccompv2": func(c *caze, p *constraintParameters) {
		c.only("seccomp-profile-set", "seccomp-profile-set-pod")
		if slices.Contains(p.AllowedProfiles, "not configured") {
			c.controls = []string{"seccomp-unconfined", "seccomp-unconfined-pod"}
		}
	},
}

// host begins a reference that names its registry.
var host = regexp.MustCompile(`^[^/]*[.:][^/]*/`)

// registries are beginnings of images as hosts with beginnings of paths.
func registries(images []string) []string {
	var out []string
	for _, i := range images {
		switch {
		case host.MatchString(i):
		case strings.Contains(i, "/"):
			i = "docker.io/" + i
		default:
			i = "docker.io/library/" + i
		}
		out = append(out, strings.TrimRight(i, "*/"))
	}
	return out
}
