// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/cel-go/cel"
	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"
	"github.com/kyverno/sdk/extensions/cel/compiler"
	"github.com/kyverno/sdk/extensions/cel/libs/generator"
	"github.com/kyverno/sdk/extensions/cel/libs/globalcontext"
	"github.com/kyverno/sdk/extensions/cel/libs/hash"
	"github.com/kyverno/sdk/extensions/cel/libs/http"
	"github.com/kyverno/sdk/extensions/cel/libs/image"
	"github.com/kyverno/sdk/extensions/cel/libs/imagedata"
	"github.com/kyverno/sdk/extensions/cel/libs/json"
	"github.com/kyverno/sdk/extensions/cel/libs/math"
	"github.com/kyverno/sdk/extensions/cel/libs/resource"
	"github.com/kyverno/sdk/extensions/cel/libs/time"
	"github.com/kyverno/sdk/extensions/cel/libs/transform"
	"github.com/kyverno/sdk/extensions/cel/libs/user"
	"github.com/kyverno/sdk/extensions/cel/libs/x509"
	"github.com/kyverno/sdk/extensions/cel/libs/yaml"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"

	"sconce.dev/sconce/policy/celguard"
)

// nowKey is the variable that time.now() is read from: a policy asks no clock.
const nowKey = "__now__"

// Exemption is what expressions see of partial exceptions, as "exceptions".
type Exemption struct {
	AllowedImages []string `cel:"allowedImages"`
	AllowedValues []string `cel:"allowedValues"`
}

// small says that going through it takes no time.
func (e *Exemption) small() bool { return len(e.AllowedImages)+len(e.AllowedValues) <= maxExempt }

const maxExempt = 200

var (
	objectType    = types.NewObjectType("Object")
	jsonPatchType = types.NewObjectType("JSONPatch")
	exemptionType = types.NewObjectType("kyvernocel.Exemption")
)

// flavour is what an environment depends on: the type of policy, and the
// namespace that a namespaced one is confined to.
type flavour struct {
	kind      Type
	namespace string
}

// environ is an environment that expressions are compiled in. Only the types of
// "variables" are the policy's own: they are set while it is compiled.
type environ struct {
	mu        sync.Mutex
	env       *cel.Env
	guard     *celguard.Guard
	variables *variableTypes
}

var environs = struct {
	sync.Mutex
	of map[flavour]*environ
}{of: map[flavour]*environ{}}

// maxEnvirons bounds the environments that are kept: those of namespaces that
// are not among them are made anew.
const maxEnvirons = 64

// environOf returns the environment of a flavour.
func environOf(f flavour) (*environ, error) {
	environs.Lock()
	defer environs.Unlock()
	if e := environs.of[f]; e != nil {
		return e, nil
	}
	e, err := newEnviron(f)
	if err != nil {
		return nil, fmt.Errorf("building the CEL environment: %w", err)
	}
	if len(environs.of) < maxEnvirons {
		environs.of[f] = e
	}
	return e, nil
}

func newEnviron(f flavour) (*environ, error) {
	base := baseOptions(f.kind)
	env, err := cel.NewEnv(base...)
	if err != nil {
		return nil, err
	}
	variables := &variableTypes{Provider: env.CELTypeProvider()}
	variables.reset()
	provider := apiservercel.NewDeclTypeProvider(compiler.NamespaceType, compiler.RequestType)
	declared, err := provider.EnvOptions(variables)
	if err != nil {
		return nil, err
	}
	options := slices.Concat(base, declared)
	if f.kind == Mutating || f.kind == Deleting {
		options = append(options, common.ResolverEnvOption(&mutation.DynamicTypeResolver{}))
	}
	// Libraries with types of their own come last: the types are added to those
	// that are declared so far.
	options = append(options, libraries(f)...)
	if env, err = cel.NewEnv(options...); err != nil {
		return nil, err
	}
	return &environ{env: env, guard: celguard.New(env), variables: variables}, nil
}

// baseOptions are the language and the variables, as Kyverno has them.
func baseOptions(kind Type) []cel.EnvOption {
	var out []cel.EnvOption
	if kind != Generating {
		// The manifests that a generating policy writes have mixed values.
		out = append(out, cel.HomogeneousAggregateLiterals())
	}
	out = append(out,
		cel.EagerlyValidateDeclarations(true),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(),
		ext.Bindings(),
		ext.Encoders(),
		ext.Lists(ext.ListsVersion(3)),
		ext.Math(),
		ext.Protos(),
		ext.Sets(),
		ext.Strings(ext.StringsVersion(2)),
		ext.Regex(ext.RegexVersion(1)),
		ext.TwoVarComprehensions(),
		library.CIDR(),
		library.Format(),
		library.IP(),
		library.Lists(),
		library.Regex(),
		library.URLs(),
		library.Quantity(),
		library.SemverLib(library.SemverVersion(1)),
		cel.Macros(cel.ReceiverMacro("now", 0, nowMacro)),
		cel.Variable(nowKey, cel.TimestampType),
		cel.Variable(compiler.ObjectKey, cel.DynType),
		cel.Variable(compiler.OldObjectKey, cel.DynType),
		cel.Variable(compiler.RequestKey, compiler.RequestType.CelType()),
		cel.Variable(compiler.NamespaceObjectKey, compiler.NamespaceType.CelType()),
		cel.Variable(compiler.VariablesKey, compiler.VariablesType),
		cel.Types(compiler.NamespaceType.CelType()),
		cel.Types(compiler.RequestType.CelType()),
	)
	if kind != ImageValidating {
		out = append(out, orValue()...)
	}
	if kind == Mutating {
		out = append(out, cel.Types(objectType), cel.Types(jsonPatchType))
	}
	if kind == ImageValidating {
		out = append(out,
			cel.Variable(compiler.ImagesKey, cel.MapType(cel.StringType, cel.ListType(cel.StringType))),
			cel.Variable(compiler.AttestorsKey, cel.MapType(cel.StringType, cel.DynType)),
			cel.Variable(compiler.AttestationsKey, cel.MapType(cel.StringType, cel.StringType)),
		)
	}
	return out
}

// libraries are Kyverno's own functions. What they look up is given by the
// activation of an evaluation; nothing is known without one.
func libraries(f flavour) []cel.EnvOption {
	latest := image.Latest()
	// Kyverno's libraries build the environment anew: what is declared after them
	// would not be seen.
	out := []cel.EnvOption{
		ext.NativeTypes(reflect.TypeFor[Exemption](), ext.ParseStructTags(true)),
		cel.Variable(compiler.ExceptionsKey, exemptionType),
		cel.Lib(randomLib{}),
		cel.Lib(gzipLib{}),
		library.JSONPatch(),
	}
	if f.kind == ImageValidating {
		out = append(out, cel.Lib(verifyLib{}))
	}
	out = append(out,
		globalcontext.Lib(globalcontext.Context{}, latest),
		resource.Lib(resource.Context{}, f.namespace, latest),
		image.Lib(latest),
		imagedata.Lib(imagedata.Context{}, latest, nil),
		hash.Lib(latest),
		math.Lib(latest),
		json.Lib(&json.JsonImpl{}, latest),
		yaml.Lib(&yaml.YamlImpl{}, latest),
		x509.Lib(latest),
		time.Lib(latest),
		transform.Lib(latest),
		user.Lib(latest),
		http.Lib(http.Context{}, latest),
	)
	if f.kind == Generating {
		out = append(out, generator.Lib(generator.Context{}, f.namespace, latest))
	}
	return out
}

// nowMacro makes time.now() read the time of the request.
func nowMacro(f cel.MacroExprFactory, target celast.Expr, _ []celast.Expr) (celast.Expr, *cel.Error) {
	if target.Kind() != celast.IdentKind || target.AsIdent() != "time" {
		return nil, nil
	}
	return f.NewIdent(nowKey), nil
}

// orValue lets x.orValue(y) be called on what is no optional, as policies do
// that were written for older versions of CEL.
func orValue() []cel.EnvOption {
	macro := func(f cel.MacroExprFactory, target celast.Expr, args []celast.Expr) (celast.Expr, *cel.Error) {
		return f.NewCall(orValueFunction, target, args[0]), nil
	}
	return []cel.EnvOption{
		cel.Macros(cel.ReceiverMacro("orValue", 1, macro)),
		cel.Function(orValueFunction, cel.Overload("or_value_any", []*cel.Type{cel.DynType, cel.DynType}, cel.DynType,
			cel.BinaryBinding(func(value, other ref.Val) ref.Val {
				optional, ok := value.(*types.Optional)
				switch {
				case !ok:
					return value
				case optional.HasValue():
					return optional.GetValue()
				}
				return other
			}))),
	}
}

const orValueFunction = "__or_value__"

// variableTypes gives the variables of the policy that is compiled their types.
// Programs of other policies are run meanwhile, and ask for other types.
type variableTypes struct {
	types.Provider
	fields atomic.Pointer[map[string]*types.Type]
}

// reset forgets the variables of the policy before.
func (v *variableTypes) reset() { v.fields.Store(&map[string]*types.Type{}) }

// register declares a variable.
func (v *variableTypes) register(name string, t *types.Type) {
	fields := maps.Clone(*v.fields.Load())
	fields[name] = t
	v.fields.Store(&fields)
}

// FindStructType implements types.Provider.
func (v *variableTypes) FindStructType(name string) (*types.Type, bool) {
	if name == compiler.VariablesType.DeclaredTypeName() {
		return variablesType, true
	}
	return v.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (v *variableTypes) FindStructFieldNames(name string) ([]string, bool) {
	if name == compiler.VariablesType.DeclaredTypeName() {
		return slices.Sorted(maps.Keys(*v.fields.Load())), true
	}
	return v.Provider.FindStructFieldNames(name)
}

// FindStructFieldType implements types.Provider.
func (v *variableTypes) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if name != compiler.VariablesType.DeclaredTypeName() {
		return v.Provider.FindStructFieldType(name, field)
	}
	if t := (*v.fields.Load())[field]; t != nil {
		return &types.FieldType{Type: t}, true
	}
	return nil, false
}

var variablesType = types.NewTypeTypeWithParam(compiler.VariablesType)
