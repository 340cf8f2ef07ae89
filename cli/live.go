// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/cluster"
)

// restConfig is how the cluster is reached, without a limit on requests.
func (f *clusterFlags) restConfig() (*rest.Config, error) {
	config, err := f.loader().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS = -1
	config.WarningHandlerWithContext = rest.NoWarnings{}
	return config, nil
}

// readOne lists one object, since to list is all that a scan may do; it returns
// nil where the object is no more.
func readOne(ctx context.Context, client dynamic.Interface, kinds []cluster.Kind, at place) (*unstructured.Unstructured, error) {
	i := slices.IndexFunc(kinds, func(k cluster.Kind) bool { return k.GroupKind == at.GroupKind })
	if i < 0 {
		return nil, fmt.Errorf("the API does not serve %s", at.Kind)
	}
	list, err := resource(client, kinds[i], at.namespace).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + at.name})
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", at.Kind, at.name, err)
	}
	if len(list.Items) == 0 {
		return nil, nil
	}
	return &list.Items[0], nil
}

func resource(client dynamic.Interface, k cluster.Kind, namespace string) dynamic.ResourceInterface {
	r := client.Resource(schema.GroupVersionResource{Group: k.Group, Version: k.Version, Resource: k.Resource})
	if k.Namespaced && namespace != "" {
		return r.Namespace(namespace)
	}
	return r
}

// liveObject makes an object of what the API server sent, without its managers.
func liveObject(u *unstructured.Unstructured) (*object.Object, error) {
	u = u.DeepCopy()
	u.SetManagedFields(nil)
	objects, err := object.FromNode(object.FromAny(u.Object), &object.Origin{})
	if err != nil || len(objects) != 1 {
		return nil, fmt.Errorf("reading %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return objects[0], nil
}
