// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// inventory is data.inventory: other objects, as far as a template reads them.
type inventory struct {
	tree ast.Value
	// complete says that there are no other objects of those kinds.
	complete bool
}

// inventories are those that were made of one cluster, so that reviews and
// templates share them.
type inventories struct {
	cluster policy.Cluster
	literal bool
	mu      sync.Mutex
	kinds   map[object.GroupKind]*kindObjects
	made    map[string]*inventory
}

// kindObjects are the objects of one kind.
type kindObjects struct {
	objects  []*object.Object
	values   []*ast.Term
	complete bool
}

// sharedInventories keeps the inventories of the cluster that was last asked
// for.
type sharedInventories struct {
	mu   sync.Mutex
	last *inventories
}

// of returns the inventories of a cluster.
func (s *sharedInventories) of(c policy.Cluster) *inventories {
	if c == nil || !reflect.ValueOf(c).Comparable() {
		return newInventories(c, false)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || s.last.cluster != c {
		s.last = newInventories(c, false)
	}
	return s.last
}

// newInventories returns inventories of a cluster. Literal ones take objects as
// they are written: those that name no namespace are in none.
func newInventories(c policy.Cluster, literal bool) *inventories {
	return &inventories{cluster: c, literal: literal, kinds: map[object.GroupKind]*kindObjects{}, made: map[string]*inventory{}}
}

// get returns the inventory that holds what is wanted; nil where nothing is.
func (s *inventories) get(want []wanted) *inventory {
	if len(want) == 0 {
		return nil
	}
	key := fmt.Sprint(want)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made[key] == nil {
		s.made[key] = s.build(want)
	}
	return s.made[key]
}

// build makes an inventory.
func (s *inventories) build(want []wanted) *inventory {
	out := &inventory{complete: s.cluster != nil}
	roots := map[string]branch{}
	if s.cluster != nil {
		kinds, complete := s.wantedKinds(want)
		out.complete = complete
		for _, gk := range kinds {
			k := s.kind(gk)
			out.complete = out.complete && k.complete
			for i, o := range k.objects {
				grow(roots, inventoryPath(o), k.values[i])
			}
		}
	}
	out.tree = value(roots)
	return out
}

// wantedKinds returns the kinds whose objects are wanted, and whether these are
// all that there are.
func (s *inventories) wantedKinds(want []wanted) (kinds []object.GroupKind, complete bool) {
	complete = true
	add := func(gk object.GroupKind) {
		if !slices.Contains(kinds, gk) {
			kinds = append(kinds, gk)
		}
	}
	for _, w := range want {
		of := w.kinds()
		if of.Group != policy.Any && of.Kind != policy.Any {
			add(of)
			continue
		}
		known, all := s.cluster.Kinds(of)
		complete = complete && all
		for _, gk := range known {
			add(gk)
		}
	}
	return kinds, complete
}

// kind returns the objects of a kind. One that is not known to be in a
// namespace, or whose values are not all known, is left out.
func (s *inventories) kind(gk object.GroupKind) *kindObjects {
	if k := s.kinds[gk]; k != nil {
		return k
	}
	objects, all := s.cluster.Objects(gk, "")
	k := &kindObjects{complete: all}
	for _, o := range objects {
		if o.Root.HasUnknown() || !s.literal && unplaced(o) {
			k.complete = false
			continue
		}
		k.objects = append(k.objects, o)
		k.values = append(k.values, ast.NewTerm(objectValue(o)))
	}
	s.kinds[gk] = k
	return k
}

// branch is a part of the tree: *ast.Term or map[string]branch.
type branch any

// grow puts a value into the tree.
func grow(tree map[string]branch, path []string, leaf *ast.Term) {
	for _, step := range path[:len(path)-1] {
		next, ok := tree[step].(map[string]branch)
		if !ok {
			next = map[string]branch{}
			tree[step] = next
		}
		tree = next
	}
	tree[path[len(path)-1]] = leaf
}

// value makes an object of a part of the tree.
func value(tree map[string]branch) ast.Value {
	pairs := make([][2]*ast.Term, 0, len(tree))
	for key, b := range tree {
		term, ok := b.(*ast.Term)
		if sub, branches := b.(map[string]branch); branches && !ok {
			term = ast.NewTerm(value(sub))
		}
		pairs = append(pairs, [2]*ast.Term{ast.StringTerm(key), term})
	}
	return ast.NewObject(pairs...)
}

// inventoryPath returns where an object is in the inventory.
func inventoryPath(o *object.Object) []string {
	if o.Namespace == "" {
		return []string{"cluster", o.APIVersion, o.Kind, o.Name}
	}
	return []string{"namespace", o.Namespace, o.APIVersion, o.Kind, o.Name}
}

// unplaced says whether an object is of a kind of Kubernetes that is in a
// namespace, and names none.
func unplaced(o *object.Object) bool {
	group := o.Group()
	return o.Namespace == "" && object.Namespaced(o.GroupKind()) && (!strings.Contains(group, ".") || strings.HasSuffix(group, ".k8s.io"))
}

// store returns the inventory as a store of Rego.
func (in *inventory) store() storage.Store {
	if in == nil {
		return emptyStore
	}
	return &treeStore{tree: in.tree}
}

var emptyStore = &treeStore{tree: ast.NewObject()}

// treeStore is a store that holds data.inventory and cannot be changed.
type treeStore struct {
	storage.TriggersNotSupported
	storage.PolicyNotSupported
	storage.WritesNotSupported
	tree ast.Value
}

// reading is a transaction of a treeStore.
type reading struct{}

// ID implements storage.Transaction.
func (reading) ID() uint64 { return 0 }

// NewTransaction implements storage.Store.
func (*treeStore) NewTransaction(context.Context, ...storage.TransactionParams) (storage.Transaction, error) {
	return reading{}, nil
}

// Abort implements storage.Store.
func (*treeStore) Abort(context.Context, storage.Transaction) {}

// Commit implements storage.Store.
func (*treeStore) Commit(context.Context, storage.Transaction) error { return nil }

// Truncate implements storage.Store.
func (*treeStore) Truncate(context.Context, storage.Transaction, storage.TransactionParams, storage.Iterator) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr, Message: "the inventory cannot be changed"}
}

// Read implements storage.Store.
func (s *treeStore) Read(_ context.Context, _ storage.Transaction, path storage.Path) (any, error) {
	if len(path) == 0 {
		return ast.NewObject([2]*ast.Term{inventoryTerm, ast.NewTerm(s.tree)}), nil
	}
	if path[0] != string(inventoryTerm.Value.(ast.String)) {
		return nil, notFound
	}
	at := s.tree
	for _, step := range path[1:] {
		next := child(at, step)
		if next == nil {
			return nil, notFound
		}
		at = next.Value
	}
	return at, nil
}

// child returns what a value has at a step of a path.
func child(v ast.Value, step string) *ast.Term {
	switch v := v.(type) {
	case ast.Object:
		return v.Get(ast.StringTerm(step))
	case *ast.Array:
		if n, ok := ast.Number(step).Int(); ok && n >= 0 && n < v.Len() {
			return v.Elem(n)
		}
	}
	return nil
}

var (
	inventoryTerm = ast.StringTerm("inventory")
	notFound      = &storage.Error{Code: storage.NotFoundErr, Message: "there is no such object"}
)
