// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/policy"
)

// Spec is the spec of a ClusterPolicy or of a Policy, as it is written. Fields
// that say how Kyverno is to be run (webhooks, schema validation, server-side
// apply) are read and not used.
type Spec struct {
	// Rules are the rules as they are written.
	Rules                            []RuleSpec       `json:"-"`
	ApplyRules                       string           `json:"applyRules,omitempty"` // All or One
	FailurePolicy                    string           `json:"failurePolicy,omitempty"`
	ValidationFailureAction          string           `json:"validationFailureAction,omitempty"`
	ValidationFailureActionOverrides []ActionOverride `json:"validationFailureActionOverrides,omitempty"`
	EmitWarning                      *bool            `json:"emitWarning,omitempty"`
	Admission                        *bool            `json:"admission,omitempty"`
	Background                       *bool            `json:"background,omitempty"`
	SchemaValidation                 *bool            `json:"schemaValidation,omitempty"`
	WebhookTimeoutSeconds            *int32           `json:"webhookTimeoutSeconds,omitempty"`
	MutateExistingOnPolicyUpdate     bool             `json:"mutateExistingOnPolicyUpdate,omitempty"`
	GenerateExistingOnPolicyUpdate   *bool            `json:"generateExistingOnPolicyUpdate,omitempty"`
	GenerateExisting                 bool             `json:"generateExisting,omitempty"`
	UseServerSideApply               bool             `json:"useServerSideApply,omitempty"`
	WebhookConfiguration             *Webhook         `json:"webhookConfiguration,omitempty"`
}

// Webhook says how the policy's webhook is configured.
type Webhook struct {
	FailurePolicy   string                                   `json:"failurePolicy,omitempty"`
	TimeoutSeconds  *int32                                   `json:"timeoutSeconds,omitempty"`
	MatchConditions []admissionregistrationv1.MatchCondition `json:"matchConditions,omitempty"`
}

// ActionOverride is what follows a failure in some namespaces.
type ActionOverride struct {
	Action            string                `json:"action,omitempty"`
	Namespaces        []string              `json:"namespaces,omitempty"`
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
}

// RuleSpec is a rule as it is written, or as it was generated for the
// controllers of pods. Trees are maps, lists and scalars.
type RuleSpec struct {
	Name                   string            `json:"name"`
	Context                []ContextEntry    `json:"context,omitempty"`
	ReportProperties       map[string]string `json:"reportProperties,omitempty"`
	Match                  Match             `json:"match"`
	Exclude                *Match            `json:"exclude,omitempty"`
	ImageExtractors        map[string][]any  `json:"imageExtractors,omitempty"`
	Preconditions          any               `json:"preconditions,omitempty"`
	CELPreconditions       []MatchCondition  `json:"celPreconditions,omitempty"`
	Mutation               *Mutation         `json:"mutate,omitempty"`
	Validation             *Validation       `json:"validate,omitempty"`
	Generation             *Generation       `json:"generate,omitempty"`
	VerifyImages           []map[string]any  `json:"verifyImages,omitempty"`
	SkipBackgroundRequests *bool             `json:"skipBackgroundRequests,omitempty"`
}

// MatchCondition is a CEL expression that must hold for a rule to be run.
type MatchCondition = admissionregistrationv1.MatchCondition

// Match says what a rule is about, or what it is not about: any of some filters,
// all of them, or the one that stands in it in the old form.
type Match struct {
	Any []Filter `json:"any,omitempty"`
	All []Filter `json:"all,omitempty"`
	Filter
}

// Filter is one description of requests.
type Filter struct {
	Roles        []string         `json:"roles,omitempty"`
	ClusterRoles []string         `json:"clusterRoles,omitempty"`
	Subjects     []rbacv1.Subject `json:"subjects,omitempty"`
	Resources    Resources        `json:"resources,omitempty"`
}

// Resources describes objects, by wildcards.
type Resources struct {
	Kinds             []string              `json:"kinds,omitempty"`
	Name              string                `json:"name,omitempty"`
	Names             []string              `json:"names,omitempty"`
	Namespaces        []string              `json:"namespaces,omitempty"`
	Annotations       map[string]string     `json:"annotations,omitempty"`
	Selector          *metav1.LabelSelector `json:"selector,omitempty"`
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	Operations        []policy.Operation    `json:"operations,omitempty"`
}

// ContextEntry is a variable of a rule, and where its value comes from.
type ContextEntry struct {
	Name            string         `json:"name"`
	Variable        *Variable      `json:"variable,omitempty"`
	ConfigMap       *ConfigMap     `json:"configMap,omitempty"`
	APICall         *APICall       `json:"apiCall,omitempty"`
	ImageRegistry   *ImageRegistry `json:"imageRegistry,omitempty"`
	GlobalReference *GlobalRef     `json:"globalReference,omitempty"`
}

// Variable is a value, or what a query finds.
type Variable struct {
	Value    any    `json:"value,omitempty"`
	JMESPath string `json:"jmesPath,omitempty"`
	Default  any    `json:"default,omitempty"`
}

// ConfigMap names one.
type ConfigMap struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

// APICall is a request to the API server, or to a service.
type APICall struct {
	URLPath  string `json:"urlPath,omitempty"`
	Method   string `json:"method,omitempty"`
	Data     []any  `json:"data,omitempty"`
	Service  any    `json:"service,omitempty"`
	Default  any    `json:"default,omitempty"`
	JMESPath string `json:"jmesPath,omitempty"`
}

// ImageRegistry asks a registry about an image.
type ImageRegistry struct {
	Reference                string `json:"reference"`
	JMESPath                 string `json:"jmesPath,omitempty"`
	ImageRegistryCredentials any    `json:"imageRegistryCredentials,omitempty"`
}

// GlobalRef names an entry of Kyverno's global context.
type GlobalRef struct {
	Name     string `json:"name"`
	JMESPath string `json:"jmesPath,omitempty"`
}

// Validation is what must hold. One of its checks is set.
type Validation struct {
	FailureAction           string           `json:"failureAction,omitempty"`
	FailureActionOverrides  []ActionOverride `json:"failureActionOverrides,omitempty"`
	AllowExistingViolations *bool            `json:"allowExistingViolations,omitempty"`
	Message                 string           `json:"message,omitempty"`
	Pattern                 any              `json:"pattern,omitempty"`
	AnyPattern              any              `json:"anyPattern,omitempty"`
	Deny                    *Deny            `json:"deny,omitempty"`
	ForEach                 []ForEach        `json:"foreach,omitempty"`
	PodSecurity             *PodSecurity     `json:"podSecurity,omitempty"`
	CEL                     *CEL             `json:"cel,omitempty"`
	Assert                  any              `json:"assert,omitempty"`
	Manifests               any              `json:"manifests,omitempty"`
}

// Deny fails where conditions hold: a list, or a map with any and all.
type Deny struct {
	Conditions any `json:"conditions,omitempty"`
}

// ForEach checks every element of a list.
type ForEach struct {
	List          string         `json:"list,omitempty"`
	ElementScope  *bool          `json:"elementScope,omitempty"`
	Context       []ContextEntry `json:"context,omitempty"`
	Preconditions any            `json:"preconditions,omitempty"`
	Pattern       any            `json:"pattern,omitempty"`
	AnyPattern    any            `json:"anyPattern,omitempty"`
	Deny          *Deny          `json:"deny,omitempty"`
	ForEach       []ForEach      `json:"foreach,omitempty"`
}

// PodSecurity is a level of the Pod Security Standards, and what is excluded.
type PodSecurity struct {
	Level   string             `json:"level,omitempty"`
	Version string             `json:"version,omitempty"`
	Exclude []PodSecurityCheck `json:"exclude,omitempty"`
}

// PodSecurityCheck is a control of the Pod Security Standards that is excluded.
type PodSecurityCheck struct {
	ControlName     string   `json:"controlName"`
	Images          []string `json:"images,omitempty"`
	RestrictedField string   `json:"restrictedField,omitempty"`
	Values          []string `json:"values,omitempty"`
}

// CEL is what a ValidatingAdmissionPolicy would hold.
type CEL struct {
	Generate         *bool                                     `json:"generate,omitempty"`
	Expressions      []admissionregistrationv1.Validation      `json:"expressions,omitempty"`
	ParamKind        *admissionregistrationv1.ParamKind        `json:"paramKind,omitempty"`
	ParamRef         *admissionregistrationv1.ParamRef         `json:"paramRef,omitempty"`
	AuditAnnotations []admissionregistrationv1.AuditAnnotation `json:"auditAnnotations,omitempty"`
	Variables        []admissionregistrationv1.Variable        `json:"variables,omitempty"`
}

// Mutation is how an object is changed.
type Mutation struct {
	MutateExistingOnPolicyUpdate *bool             `json:"mutateExistingOnPolicyUpdate,omitempty"`
	Targets                      []any             `json:"targets,omitempty"`
	PatchStrategicMerge          any               `json:"patchStrategicMerge,omitempty"`
	PatchesJSON6902              string            `json:"patchesJson6902,omitempty"`
	ForEach                      []ForEachMutation `json:"foreach,omitempty"`
}

// ForEachMutation changes an object once for every element of a list.
type ForEachMutation struct {
	List                string            `json:"list,omitempty"`
	Order               string            `json:"order,omitempty"`
	Context             []ContextEntry    `json:"context,omitempty"`
	Preconditions       any               `json:"preconditions,omitempty"`
	PatchStrategicMerge any               `json:"patchStrategicMerge,omitempty"`
	PatchesJSON6902     string            `json:"patchesJson6902,omitempty"`
	ForEach             []ForEachMutation `json:"foreach,omitempty"`
}

// Generation is what is made where there is an object.
type Generation struct {
	GenerateExisting               *bool `json:"generateExisting,omitempty"`
	Synchronize                    bool  `json:"synchronize,omitempty"`
	OrphanDownstreamOnPolicyDelete bool  `json:"orphanDownstreamOnPolicyDelete,omitempty"`
	Target
	ForEach []ForEachGeneration `json:"foreach,omitempty"`
}

// Target is an object that is made, and of what.
type Target struct {
	APIVersion string    `json:"apiVersion,omitempty"`
	Kind       string    `json:"kind,omitempty"`
	Namespace  string    `json:"namespace,omitempty"`
	Name       string    `json:"name,omitempty"`
	UID        string    `json:"uid,omitempty"`
	Data       any       `json:"data,omitempty"`
	Clone      Clone     `json:"clone,omitempty"`
	CloneList  CloneList `json:"cloneList,omitempty"`
}

// Clone names the object that is copied.
type Clone struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

// CloneList describes objects that are copied.
type CloneList struct {
	Namespace string                `json:"namespace,omitempty"`
	Kinds     []string              `json:"kinds,omitempty"`
	Selector  *metav1.LabelSelector `json:"selector,omitempty"`
}

// ForEachGeneration makes an object for every element of a list.
type ForEachGeneration struct {
	List          string         `json:"list,omitempty"`
	Context       []ContextEntry `json:"context,omitempty"`
	Preconditions any            `json:"preconditions,omitempty"`
	Target
}

// ExceptionSpec is the spec of a PolicyException.
type ExceptionSpec struct {
	Background  *bool              `json:"background,omitempty"`
	Match       Match              `json:"match"`
	Conditions  any                `json:"conditions,omitempty"`
	Exceptions  []Excused          `json:"exceptions"`
	PodSecurity []PodSecurityCheck `json:"podSecurity,omitempty"`
}

// Excused names rules of a policy, by wildcards.
type Excused struct {
	PolicyName string   `json:"policyName"`
	RuleNames  []string `json:"ruleNames"`
}
