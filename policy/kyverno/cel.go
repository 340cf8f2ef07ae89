// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/celcover"
	"sconce.dev/sconce/policy/kyverno/jmes"
)

// celCheck is a validation in CEL that is ready to be run.
type celCheck struct {
	*CEL
	validator validating.Validator
	// namespaceObject and user say what the expressions name.
	namespaceObject, user bool
	// reads are the fields of the object that each expression names.
	reads [][][]string
}

// celCompiler is the API server's, with what is wrong with expressions.
type celCompiler struct {
	*cel.CompositedCompiler
	errs []error
	// programs are told what is compiled, where somebody wants to know what it
	// comes to.
	programs *celcover.Programs
}

func newCELCompiler(p *Policy) (*celCompiler, error) {
	env, err := celEnv()
	if err != nil {
		return nil, err
	}
	env, programs, err := celcover.Watch(p.coverage, env)
	if err != nil {
		return nil, err
	}
	c, err := cel.NewCompositedCompiler(env)
	return &celCompiler{CompositedCompiler: c, programs: programs}, err
}

// orValue is what x.orValue(y) is compiled to.
const orValue = "kyverno_or_value"

// celEnv is the API server's environment, in which x.orValue(y) is x where x is no
// optional value, as Kyverno has it.
var celEnv = sync.OnceValues(func() (*environment.EnvSet, error) {
	macro := func(f celgo.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *celgo.Error) {
		return f.NewCall(orValue, target, args[0]), nil
	}
	choose := func(x, y ref.Val) ref.Val {
		optional, ok := x.(*types.Optional)
		switch {
		case !ok:
			return x
		case optional.HasValue():
			return optional.GetValue()
		}
		return y
	}
	overload := celgo.Overload(orValue+"_dyn_dyn", []*celgo.Type{celgo.DynType, celgo.DynType}, celgo.DynType, celgo.BinaryBinding(choose))
	return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions:        []celgo.EnvOption{celgo.Macros(celgo.ReceiverMacro("orValue", 1, macro)), celgo.Function(orValue, overload)},
	})
})

func (c *celCompiler) conditions(what string, list []cel.ExpressionAccessor, declared cel.OptionalVariableDeclarations) cel.ConditionEvaluator {
	out := c.CompileCondition(list, declared, environment.StoredExpressions)
	for _, err := range out.CompilationErrors() {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", what, err))
	}
	return out
}

// compileCEL prepares a validation in CEL.
func (r *Rule) compileCEL(p *Policy) error {
	v := r.Validation.CEL
	compiler, err := newCELCompiler(p)
	if err != nil {
		return fmt.Errorf("building the CEL environment: %w", err)
	}
	declared := cel.OptionalVariableDeclarations{HasParams: v.ParamKind != nil && v.ParamRef != nil, HasAuthorizer: true}
	r.expectCEL(p, compiler.programs)
	for _, x := range v.Variables {
		result := compiler.CompileAndStoreVariable(&validating.Variable{Name: x.Name, Expression: x.Expression}, declared, environment.StoredExpressions)
		if result.Error != nil {
			compiler.errs = append(compiler.errs, fmt.Errorf("variable %s: %w", x.Name, result.Error))
		}
	}
	var checks, messages, annotations []cel.ExpressionAccessor
	out := &celCheck{CEL: v}
	for _, x := range v.Expressions {
		message := x.Message
		if message == "" {
			message = r.Validation.Message
		}
		checks = append(checks, &validating.ValidationCondition{Expression: x.Expression, Message: message, Reason: x.Reason})
		out.reads = append(out.reads, r.reads(x.Expression))
		if x.MessageExpression == "" {
			messages = append(messages, nil)
			continue
		}
		messages = append(messages, &validating.MessageExpressionCondition{MessageExpression: x.MessageExpression})
	}
	for _, a := range v.AuditAnnotations {
		annotations = append(annotations, &validating.AuditAnnotationCondition{Key: a.Key, ValueExpression: a.ValueExpression})
	}
	filter, audit := compiler.conditions("expression", checks, declared), compiler.conditions("audit annotation", annotations, declared)
	var matcher matchconditions.Matcher
	if len(r.CELPreconditions) > 0 {
		matcher = matchconditions.NewMatcher(compiler.conditions("precondition", matchAccessors(r.CELPreconditions), declared), nil, p.Kind, "", p.Name)
	}
	declared.HasAuthorizer = false
	said := compiler.conditions("message", messages, declared)
	if err := errors.Join(compiler.errs...); err != nil {
		return fmt.Errorf("validate.cel does not compile: %w", err)
	}
	out.validator = validating.NewValidator(filter, matcher, audit, said, nil, nil)
	text := r.celText()
	out.namespaceObject, out.user = strings.Contains(text, "namespaceObject"), strings.Contains(text, "userInfo")
	r.cel = out
	r.check = r.validateCEL
	return nil
}

func matchAccessors(list []MatchCondition) []cel.ExpressionAccessor {
	out := make([]cel.ExpressionAccessor, len(list))
	for i := range list {
		out[i] = (*matchconditions.MatchCondition)(&list[i])
	}
	return out
}

// celText is all that the expressions of a rule say.
func (s *RuleSpec) celText() string {
	var b strings.Builder
	add := func(texts ...string) {
		for _, t := range texts {
			b.WriteString(t + "\n")
		}
	}
	if s.Validation == nil || s.Validation.CEL == nil {
		return ""
	}
	v := s.Validation.CEL
	for _, x := range v.Expressions {
		add(x.Expression, x.MessageExpression)
	}
	for _, x := range v.Variables {
		add(x.Expression)
	}
	for _, x := range s.CELPreconditions {
		add(x.Expression)
	}
	for _, x := range v.AuditAnnotations {
		add(x.ValueExpression)
	}
	return b.String()
}

// celReads are the fields of the object that an expression names, directly or by
// variables, those that it names directly first.
func celReads(expr string, variables []admissionregistrationv1.Variable) [][]string {
	named := make([]bool, len(variables))
	var out [][]string
	var add func(string)
	add = func(expr string) {
		out = append(out, objectFields(expr)...)
		for i, v := range variables {
			if !named[i] && strings.Contains(expr, "variables."+v.Name) {
				named[i] = true
				add(v.Expression)
			}
		}
	}
	add(expr)
	return out
}

// reads are the fields that an expression of the rule names; where it names none,
// those by which the rule applies.
func (r *Rule) reads(expr string) [][]string {
	variables := r.Validation.CEL.Variables
	out := celReads(expr, variables)
	for i := range r.CELPreconditions {
		if len(out) > 0 {
			break
		}
		out = celReads(r.CELPreconditions[i].Expression, variables)
	}
	return out
}

// objectFields are the paths into object that an expression names.
func objectFields(expr string) [][]string {
	const root = "object."
	var out [][]string
	for from := 0; ; {
		i := strings.Index(expr[from:], root)
		if i < 0 {
			return out
		}
		i += from
		from = i + len(root)
		if i > 0 && (isWord(expr[i-1]) || expr[i-1] == '.') {
			continue
		}
		rest := strings.TrimPrefix(strings.ReplaceAll(expr[from:], ".?", "."), "?")
		fields := leadingFields(rest)
		if end := len(strings.Join(fields, ".")); len(fields) > 0 && end < len(rest) && rest[end] == '(' {
			fields = fields[:len(fields)-1]
		}
		if len(fields) > 0 {
			out = append(out, fields)
		}
	}
}

// readPath is the place that an expression is about: the longest of the paths that
// it names and that are there, or the first.
func (s *subject) readPath(reads [][]string) object.Path {
	var best object.Path
	for _, steps := range reads {
		path := s.path(steps)
		if len(path) > len(best) {
			best = path
		}
	}
	return best
}

// maxBlamed is how many items are asked one by one which of them an expression
// does not hold for.
const maxBlamed = 32

// blame is the place that an expression that does not hold is about: of a list that
// it reads, the first item that it does not hold for alone.
func (r *Rule) blame(s *scope, param runtime.Object, i int) object.Path {
	subject := s.e.subject
	best := subject.readPath(r.cel.reads[i])
	if subject.node == nil || subject.object == nil {
		return best
	}
	var lists [][]string
	items := 0
	for _, steps := range r.cel.reads[i] {
		if n := itemsAt(subject.object, steps); n > 0 && !slices.ContainsFunc(lists, func(l []string) bool { return slices.Equal(l, steps) }) {
			lists = append(lists, steps)
			items += n
		}
	}
	if n := subject.node.Lookup(best); n == nil || n.Kind != object.List || len(n.Items) == 0 || items > maxBlamed {
		return best
	}
	if items == 1 {
		return subject.path(append(slices.Clone(lists[0]), "0"))
	}
	for _, list := range lists {
		for k := range itemsAt(subject.object, list) {
			alone := *subject
			alone.object = withOne(subject.object, lists, list, k)
			request := alone.celRequest()
			result := r.cel.validator.Validate(s.e.ctx, request.resource, request.versioned, param, request.namespace, celconfig.RuntimeCELCostBudget, &nobodyKnows{})
			if i < len(result.Decisions) && result.Decisions[i].Action == validating.ActionDeny && result.Decisions[i].Evaluation != validating.EvalError {
				return subject.path(append(slices.Clone(list), strconv.Itoa(k)))
			}
		}
	}
	return best
}

// withOne is an object of whose lists only one item of one is left.
func withOne(tree map[string]any, lists [][]string, kept []string, k int) map[string]any {
	for _, list := range lists {
		if !slices.Equal(list, kept) {
			tree, _ = relisted(tree, list, func([]any) []any { return []any{} }).(map[string]any)
		}
	}
	tree, _ = relisted(tree, kept, func(items []any) []any { return items[k : k+1] }).(map[string]any)
	return tree
}

// relisted returns a tree with another list at a place.
func relisted(tree any, steps []string, list func([]any) []any) any {
	if len(steps) == 0 {
		items, _ := tree.([]any)
		return list(items)
	}
	m, _ := tree.(map[string]any)
	return withField(m, steps[0], relisted(m[steps[0]], steps[1:], list))
}

// celRequest is a request as the API server's CEL sees it.
type celRequest struct {
	resource  schema.GroupVersionResource
	versioned *admission.VersionedAttributes
	namespace *corev1.Namespace
}

func (s *subject) celRequest() *celRequest {
	var object, old runtime.Object
	of := func(tree map[string]any) runtime.Object { return &unstructured.Unstructured{Object: tree} }
	if s.object != nil {
		object = of(s.object)
	}
	if s.old != nil {
		old = of(s.old)
	}
	resource := schema.GroupVersionResource{}
	if s.strict {
		resource, _ = meta.UnsafeGuessKindToResource(s.gvk)
	}
	namespace := s.namespace
	if s.gvk == (schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}) {
		namespace = ""
	}
	who := user.Info(&user.DefaultInfo{})
	if u := s.who.user; u != nil {
		extra := map[string][]string{}
		for k, v := range u.Extra {
			extra[k] = v
		}
		who = &user.DefaultInfo{Name: u.Username, UID: u.UID, Groups: u.Groups, Extra: extra}
	}
	attributes := admission.NewAttributesRecord(object, old, s.gvk, namespace, s.name, resource, "", admission.Operation(s.operation), nil, s.request.DryRun, who)
	versioned := &admission.VersionedAttributes{Attributes: attributes, VersionedKind: s.gvk}
	if object != nil {
		versioned.VersionedObject.Set(object)
	}
	if old != nil {
		versioned.VersionedOldObject.Set(old)
	}
	return &celRequest{resource, versioned, s.celNamespace(namespace)}
}

// celNamespace is the variable namespaceObject; nil where it is not known, or there
// is none.
func (s *subject) celNamespace(name string) *corev1.Namespace {
	if name == "" {
		return nil
	}
	if n, _ := s.request.Namespace(name); n != nil {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: stringMap(n.Root.At("metadata", "labels")), Annotations: stringMap(n.Root.At("metadata", "annotations")),
		}}
	}
	if s.strict {
		return nil
	}
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: s.given}}
}

// validateCEL runs the expressions of a rule.
func (r *Rule) validateCEL(s *scope, _ []*Exception) *Response {
	subject := s.e.subject
	if subject.strict && r.cel.user && subject.who.user == nil {
		return failed(TypeValidate, "evaluating CEL", &jmes.UnknownError{What: "who asks"})
	}
	request := subject.celRequest()
	if subject.strict && r.cel.namespaceObject && request.namespace == nil && subject.namespace != "" && subject.kind != "Namespace" {
		return failed(TypeValidate, "evaluating CEL", &jmes.UnknownError{What: "namespaceObject: the namespace is not among what was read"})
	}
	params, err := r.cel.params(s.e)
	if err != nil {
		return failed(TypeValidate, "finding the parameters", err)
	}
	for _, param := range params {
		if out := r.validateWith(s, request, param); out != nil {
			return out
		}
	}
	return &Response{Status: Pass, Message: "the rule is met"}
}

// validateWith runs the expressions with one parameter, or none; nil if all hold.
func (r *Rule) validateWith(s *scope, request *celRequest, param runtime.Object) *Response {
	asked := &nobodyKnows{}
	result := r.cel.validator.Validate(s.e.ctx, request.resource, request.versioned, param, request.namespace, celconfig.RuntimeCELCostBudget, asked)
	if asked.asked {
		return failed(TypeValidate, "evaluating CEL", &jmes.UnknownError{What: "what the user may do"})
	}
	if len(result.Decisions) == 0 && len(result.AuditAnnotations) == 0 {
		return &Response{Status: Skip, Message: "cel preconditions not met"}
	}
	for i, d := range result.Decisions {
		switch {
		case d.Evaluation == validating.EvalError && (d.Action != validating.ActionDeny || s.e.subject.strict):
			// Kyverno takes it for a failure; what it is about is not decided.
			return &Response{Status: Error, Message: policy.Reworded(d.Message)}
		case d.Action == validating.ActionDeny:
			out := &Response{Status: Fail, Message: d.Message}
			if i < len(r.cel.reads) {
				out.Path = r.blame(s, param, i)
			}
			return out
		}
	}
	return nil
}

// params are the parameters that a validation is run with: one that is nil where it
// takes none.
func (c *celCheck) params(e *evaluation) ([]runtime.Object, error) {
	if c.ParamKind == nil || c.ParamRef == nil {
		return []runtime.Object{nil}, nil
	}
	gk := object.GroupKind{Group: object.Ref{APIVersion: c.ParamKind.APIVersion}.Group(), Kind: c.ParamKind.Kind}
	namespace := c.ParamRef.Namespace
	if namespace == "" {
		namespace = e.subject.namespace
	}
	if clusterScoped[schema.GroupKind(gk)] {
		namespace = ""
	}
	if e.request.Cluster == nil {
		return nil, &jmes.UnknownError{What: "the parameters of the kind " + c.ParamKind.Kind}
	}
	objects, all := e.request.Cluster.Objects(gk, "")
	found, err := c.pick(e, objects, namespace)
	if err != nil || len(found) > 0 {
		return found, err
	}
	if !all && e.subject.strict {
		return nil, &jmes.UnknownError{What: "the parameters of the kind " + c.ParamKind.Kind}
	}
	if action := c.ParamRef.ParameterNotFoundAction; c.ParamRef.Name != "" || action != nil && *action == admissionregistrationv1.DenyAction {
		return nil, fmt.Errorf("no %s is what paramRef names", c.ParamKind.Kind)
	}
	return nil, nil
}

func (c *celCheck) pick(e *evaluation, objects []*object.Object, namespace string) ([]runtime.Object, error) {
	selector, err := metav1.LabelSelectorAsSelector(c.ParamRef.Selector)
	if err != nil {
		return nil, fmt.Errorf("paramRef.selector: %w", err)
	}
	var out []runtime.Object
	for _, o := range objects {
		if o.Namespace != "" && o.Namespace != namespace {
			continue
		}
		if c.ParamRef.Name != "" && o.Name != c.ParamRef.Name || c.ParamRef.Name == "" && !selector.Matches(labels.Set(stringMap(o.Root.At("metadata", "labels")))) {
			continue
		}
		if o.Root.HasUnknown() {
			return nil, &jmes.UnknownError{What: "all of the parameter " + o.Name}
		}
		out = append(out, &unstructured.Unstructured{Object: e.request.Tree(o)})
	}
	return out, nil
}

// nobodyKnows is an authorizer that knows nothing, and remembers that it was asked.
type nobodyKnows struct{ asked bool }

// Authorize implements authorizer.UnconditionalAuthorizer.
func (n *nobodyKnows) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	n.asked = true
	return authorizer.DecisionNoOpinion, "", errors.New("what the user may do is not known")
}

// conditions are those of a policy's webhook.
type conditions struct {
	matcher matchconditions.Matcher
	user    bool
	err     error
}

// compileConditions prepares the conditions of the policy's webhook.
func (p *Policy) compileConditions() {
	if p.Spec.WebhookConfiguration == nil || len(p.Spec.WebhookConfiguration.MatchConditions) == 0 {
		return
	}
	list := p.Spec.WebhookConfiguration.MatchConditions
	p.conditions = &conditions{}
	compiler, err := newCELCompiler(p)
	if err != nil {
		p.conditions.err = err
		return
	}
	p.expectConditions(compiler.programs)
	filter := compiler.conditions("webhookConfiguration.matchConditions", matchAccessors(list), cel.OptionalVariableDeclarations{HasAuthorizer: true})
	p.conditions.err = errors.Join(compiler.errs...)
	p.conditions.matcher = matchconditions.NewMatcher(filter, nil, p.Kind, "", p.Name)
	for _, c := range list {
		p.conditions.user = p.conditions.user || strings.Contains(c.Expression, "userInfo")
	}
}

// met says whether the conditions let the request through.
func (c *conditions) met(e *evaluation) answer {
	switch {
	case c == nil:
		return yes
	case c.err != nil, e.subject.strict && c.user && e.subject.who.user == nil:
		return maybe
	}
	asked := &nobodyKnows{}
	result := c.matcher.Match(e.ctx, e.subject.celRequest().versioned, nil, asked)
	if asked.asked || result.Error != nil {
		return maybe
	}
	return is(result.Matches)
}
