// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// variables is the map behind variables.NAME: each is evaluated when it is
// first read, and kept for the rest of the element's judgement.
type variables struct {
	scope  *scope
	names  []string
	exprs  []*expression
	values []ref.Val
}

// Find implements traits.Mapper.
func (v *variables) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	for i, n := range v.names {
		if n != string(name) {
			continue
		}
		if v.values[i] == nil {
			v.values[i] = types.NewErr("variable %s reads itself", n)
			v.values[i] = v.scope.eval(v.exprs[i])
		}
		return v.values[i], true
	}
	return nil, false
}

// Get implements traits.Indexer.
func (v *variables) Get(key ref.Val) ref.Val {
	if out, found := v.Find(key); found {
		return out
	}
	return types.NewErr("no such variable: %v", key.Value())
}

// Contains implements traits.Container.
func (v *variables) Contains(key ref.Val) ref.Val {
	_, found := v.Find(key)
	return types.Bool(found)
}

// Size implements traits.Sizer.
func (v *variables) Size() ref.Val { return types.Int(len(v.names)) }

// Iterator implements traits.Iterable: over the names.
func (v *variables) Iterator() traits.Iterator {
	names := make([]ref.Val, len(v.names))
	for i, n := range v.names {
		names[i] = types.String(n)
	}
	return &iterator{values: names}
}

// ConvertToNative implements ref.Val; the map as a whole is never converted.
func (v *variables) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("unsupported conversion of variables to %v", t)
}

// ConvertToType implements ref.Val.
func (v *variables) ConvertToType(t ref.Type) ref.Val { return convertType(v, types.MapType, t) }

// Equal implements ref.Val; the map as a whole is never compared.
func (v *variables) Equal(ref.Val) ref.Val { return types.NoSuchOverloadErr() }

// Type implements ref.Val.
func (v *variables) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (v *variables) Value() any { return nil }
