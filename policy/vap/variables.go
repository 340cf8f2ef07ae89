// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	apiservercel "k8s.io/apiserver/pkg/cel"
)

// variables are those of a policy. Each is worked out when it is first read, at
// the cost of the expression that reads it.
type variables struct {
	b      *batch
	values []ref.Val
}

var (
	_ traits.Mapper = (*variables)(nil)

	variablesType = types.NewObjectType("kubernetes.variables", traits.IndexerType|traits.FieldTesterType|traits.IterableType)
)

// named returns the variable of a name as expressions write it.
func (c *compiled) named(name string) *expression {
	if strings.Contains(name, "__") {
		var ok bool
		if name, ok = apiservercel.Unescape(name); !ok {
			return nil
		}
	}
	return c.variables[name]
}

// Find implements traits.Mapper.
func (v *variables) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), true
	}
	x := v.b.e.named(string(name))
	if x == nil {
		return nil, false
	}
	if v.values == nil {
		v.values = make([]ref.Val, len(v.b.e.variables))
	}
	if v.values[x.slot] == nil {
		v.values[x.slot] = v.b.variable(x)
	}
	return v.values[x.slot], true
}

// variable works a variable out.
func (b *batch) variable(x *expression) ref.Val {
	out, details, err := b.run(x)
	if details == nil {
		return types.NewErr("unable to get evaluation details of variable %q", x.name)
	}
	cost := details.ActualCost()
	if cost == nil {
		return types.NewErr("unable to calculate cost of variable %q", x.name)
	}
	b.spent += int64(min(*cost, math.MaxInt64))
	if err != nil {
		return types.NewErr("composited variable %q fails to evaluate: %v", x.name, err)
	}
	return out
}

// Contains implements traits.Container.
func (v *variables) Contains(key ref.Val) ref.Val {
	found, ok := v.Find(key)
	if found != nil && types.IsUnknownOrError(found) {
		return found
	}
	return types.Bool(ok)
}

// Get implements traits.Indexer.
func (v *variables) Get(key ref.Val) ref.Val {
	if found, ok := v.Find(key); ok {
		return found
	}
	return types.ValOrErr(key, "no such key: %v", key)
}

// Size implements traits.Sizer.
func (v *variables) Size() ref.Val { return types.Int(len(v.b.e.variables)) }

// Iterator implements traits.Iterable. As in the API server, it goes through the
// values.
func (v *variables) Iterator() traits.Iterator {
	var out []ref.Val
	for _, name := range slices.Sorted(maps.Keys(v.b.e.variables)) {
		out = append(out, v.Get(types.String(name)))
	}
	return types.NewRefValList(types.DefaultTypeAdapter, out).Iterator()
}

// ConvertToNative implements ref.Val.
func (v *variables) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("disallowed conversion from %q to %q", variablesType.TypeName(), t.Name())
}

// ConvertToType implements ref.Val.
func (v *variables) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case variablesType:
		return v
	case types.TypeType:
		return variablesType
	}
	return types.NewErr("disallowed conversion from %q to %q", variablesType.TypeName(), t.TypeName())
}

// Equal implements ref.Val.
func (v *variables) Equal(other ref.Val) ref.Val {
	o, ok := other.(*variables)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	return types.Bool(v == o)
}

// Type implements ref.Val.
func (v *variables) Type() ref.Type { return variablesType }

// Value implements ref.Val.
func (v *variables) Value() any { return types.NoSuchOverloadErr() }
