// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"sync"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"sconce.dev/sconce/object"
)

// namespaces are the namespaces as the API server has them: what a rule reads
// as namespaceObject.
type namespaces struct {
	byName sync.Map // of *object.Node
}

// watch follows the namespaces.
func (n *namespaces) watch(ctx context.Context, c cache.Cache) error {
	return watchWith(ctx, c, &corev1.Namespace{}, toolscache.ResourceEventHandlerFuncs{
		AddFunc:    n.set,
		UpdateFunc: func(_, now any) { n.set(now) },
		DeleteFunc: n.remove,
	})
}

func (n *namespaces) set(of any) {
	namespace, ok := of.(*corev1.Namespace)
	if !ok {
		return
	}
	data, err := json.Marshal(namespace)
	if err != nil {
		return
	}
	if roots, err := object.ParseJSON(data); err == nil && len(roots) == 1 {
		n.byName.Store(namespace.Name, roots[0])
	}
}

func (n *namespaces) remove(of any) {
	if gone, ok := of.(toolscache.DeletedFinalStateUnknown); ok {
		of = gone.Obj
	}
	if namespace, ok := of.(*corev1.Namespace); ok {
		n.byName.Delete(namespace.Name)
	}
}

// get returns a namespace, or nil.
func (n *namespaces) get(name string) *object.Node {
	if v, ok := n.byName.Load(name); ok {
		return v.(*object.Node)
	}
	return nil
}
