// SPDX-License-Identifier: Apache-2.0

// Package cluster is where the objects of a running cluster come from: it finds
// out which kinds the API serves, lists them in pages, follows their changes,
// and keeps what it read in a file from which the same can be read again. What
// may not be read, or cannot be, is a problem that names what is lacking; it is
// never left out.
//
// It only reads. It judges nothing and knows no controls: which kinds are
// wanted is told by who does.
package cluster

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"sconce.dev/sconce/object"
)

// Kind is a kind that the API serves and that can be listed.
type Kind struct {
	object.GroupKind
	// Version is the version in which it is read, Resource its name in paths.
	Version    string `json:"version"`
	Resource   string `json:"resource"`
	Namespaced bool   `json:"namespaced"`
}

// String returns the resource as RBAC names it: deployments.apps.
func (k Kind) String() string {
	if k.Group == "" {
		return k.Resource
	}
	return k.Resource + "." + k.Group
}

func (k Kind) gvr() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.Group, Version: k.Version, Resource: k.Resource}
}

func (k Kind) gvk() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind}
}

// Live is an object of a cluster, without managedFields in its tree, and what is
// known of it beside.
type Live struct {
	*object.Object
	UID, ResourceVersion string
	Generation           int64
	Managers             []metav1.ManagedFieldsEntry
}

// Cluster is a connection to the API of a cluster. It is safe for concurrent
// use.
type Cluster struct {
	// Name is what the cluster is called in what is said of its objects; it may
	// be empty.
	Name string

	config    *rest.Config
	http      *http.Client
	dynamic   *dynamic.DynamicClient
	discovery *discovery.DiscoveryClient
	typed     bool // the server is not newer than the Go types
	version   string
	patience  patience
}

// newestTyped is the minor version of Kubernetes whose Go types are linked. Of
// a newer server they would drop the fields that they do not know, so that its
// objects are read as JSON.
const newestTyped = 37

// Connect returns a cluster for a configuration, having asked it for its
// version.
//
// The limit that client-go puts on its own requests is taken off: a scan asks a
// few times a page, one page after the other, and the API server protects
// itself by priority and fairness, whose refusals (429) are waited for. With
// the usual 5 requests a second, a hundred kinds would take 20 seconds.
func Connect(config *rest.Config) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	config.RateLimiter = nil
	config.UserAgent = userAgent()
	config.WarningHandlerWithContext = rest.NoWarnings{}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	c := &Cluster{config: config, http: client, patience: usual}
	if c.discovery, err = discovery.NewDiscoveryClientForConfigAndClient(config, client); err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	if c.dynamic, err = dynamic.NewForConfigAndClient(dynamic.ConfigFor(config), client); err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	info, err := c.discovery.ServerVersionWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", config.Host, withoutURL(err))
	}
	c.version = info.GitVersion
	minor, err := strconv.Atoi(strings.TrimRight(info.Minor, "+"))
	c.typed = err == nil && minor <= newestTyped
	return c, nil
}

// Version is what the API server says of itself, as in v1.37.1.
func (c *Cluster) Version() string { return c.version }

// userAgent names the program to the API server's audit log.
func userAgent() string {
	version := "devel"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		version = info.Main.Version
	}
	return "sconce/" + version
}

// withoutURL returns the reason of an error of the HTTP client without the URL
// that it names again.
func withoutURL(err error) error {
	if ue, ok := err.(*url.Error); ok { //nolint:errorlint // only the outermost repeats the address
		return ue.Err
	}
	return err
}

// recognized says whether the Go types of a kind are linked, so that it can be
// read as protobuf.
func (c *Cluster) recognized(k Kind) bool {
	return c.typed && scheme.Scheme.Recognizes(k.gvk()) && scheme.Scheme.Recognizes(k.gvk().GroupVersion().WithKind(k.Kind+"List"))
}
