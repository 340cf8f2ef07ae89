// SPDX-License-Identifier: Apache-2.0

package role

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/generate/recording"
)

// Log is what audit logs say of who asked for what.
type Log struct {
	// Window is the time of the events that count.
	Window recording.Window `json:"window"`
	// Events were read. Of these, Early came before a decision
	// (RequestReceived), Undecided say neither that nor a status, or not what was
	// asked for, and Nobody names no user.
	Events    int `json:"events"`
	Early     int `json:"early"`
	Undecided int `json:"undecided"`
	Nobody    int `json:"nobody"`
	// Guessed were told allowed or refused by the status of the response, since
	// they have no annotation of the decision.
	Guessed int `json:"guessed"`
	// Faults could not be read.
	Faults recording.Faults `json:"faults"`

	activities map[rbac.Subject]*Activity
}

// Activity is what one subject asked for.
type Activity struct {
	Subject rbac.Subject     `json:"subject"`
	Groups  []string         `json:"groups,omitempty"`
	Window  recording.Window `json:"window"`

	allowed, refused, elsewhere map[what]*use
	// constrained says that it impersonated under a constraint, whose verbs the
	// log does not tell.
	constrained bool
	// dropped requests are of more kinds than are kept.
	dropped int
}

// what is a request without the name of its object.
type what struct{ verb, group, resource, subresource, namespace, path string }

// use is how often something was asked for, and by which names.
type use struct {
	count   int // requests that were answered
	unnamed int // of these, without a name
	names   map[string]struct{}
	more    bool // there were more names than are kept
	last    time.Time
}

// maxNames is how many names of objects are kept for one kind of request. A role
// lists far fewer.
const maxNames = 256

// maxKinds is how many kinds of requests are kept of a subject: a hostile log
// may hold any number.
const maxKinds = 20_000

// NewLog returns an empty log.
func NewLog() *Log { return &Log{activities: map[rbac.Subject]*Activity{}} }

// Activities returns what each subject asked for, sorted by subject.
func (l *Log) Activities() []*Activity {
	out := make([]*Activity, 0, len(l.activities))
	for _, a := range l.activities {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b *Activity) int { return strings.Compare(a.Subject.String(), b.Subject.String()) })
	return out
}

// Of returns what a subject asked for; nil if it asked for nothing.
func (l *Log) Of(s rbac.Subject) *Activity { return l.activities[s] }

// Read adds the events of a log: audit.k8s.io Events and EventLists as JSON, one
// a line or not, packed with gzip or not, bare or as GKE, EKS, AKS and log
// collectors wrap them. The error is that of the reader; what is malformed is
// counted.
func (l *Log) Read(r *bufio.Reader, file string) error {
	return recording.Values(r, file, &l.Faults, func(line int, value []byte) {
		l.value(file, line, value, 0)
	})
}

// maxWraps is how many envelopes an event may stand in.
const maxWraps = 5

// text is a string of a log; what is none is empty.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*t = text(s)
	}
	return nil
}

// list is a list of a log; what is none is empty.
type list []json.RawMessage

// UnmarshalJSON implements json.Unmarshaler.
func (l *list) UnmarshalJSON(data []byte) error {
	var out []json.RawMessage
	if json.Unmarshal(data, &out) == nil {
		*l = out
	}
	return nil
}

// identity is a user of an event.
type identity struct {
	Username text   `json:"username"`
	Groups   []text `json:"groups"`
	UID      text   `json:"uid"`
	Extra    extra  `json:"extra"`
}

// extra are the extra fields of a user; what has another type is empty.
type extra map[string][]text

// UnmarshalJSON implements json.Unmarshaler.
func (x *extra) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return nil
	}
	*x = extra{}
	for key, raw := range fields {
		var values []text
		if json.Unmarshal(raw, &values) == nil {
			(*x)[key] = values
		}
	}
	return nil
}

// reference is the object of an event.
type reference struct {
	Resource    text `json:"resource"`
	Namespace   text `json:"namespace"`
	Name        text `json:"name"`
	APIGroup    text `json:"apiGroup"`
	APIVersion  text `json:"apiVersion"`
	Subresource text `json:"subresource"`
}

// event has the fields that are read of an event, and those of what it may be
// wrapped in.
type event struct {
	Kind             text       `json:"kind"`
	Stage            text       `json:"stage"`
	RequestURI       text       `json:"requestURI"`
	Verb             text       `json:"verb"`
	User             *identity  `json:"user"`
	ImpersonatedUser *identity  `json:"impersonatedUser"`
	ObjectRef        *reference `json:"objectRef"`
	ResponseStatus   *struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	Received               text            `json:"requestReceivedTimestamp"`
	At                     text            `json:"stageTimestamp"`
	Timestamp              text            `json:"timestamp"`
	Annotations            map[string]text `json:"annotations"`
	AuthenticationMetadata *struct {
		Constraint text `json:"impersonationConstraint"`
	} `json:"authenticationMetadata"`

	Items      list            `json:"items"`      // of an EventList
	Records    list            `json:"records"`    // Azure
	Events     list            `json:"events"`     // CloudWatch, as its client prints it
	LogEvents  list            `json:"logEvents"`  // CloudWatch, as it is subscribed to
	Properties json.RawMessage `json:"properties"` // Azure
	Log        json.RawMessage `json:"log"`        // Azure, Fluent Bit
	Message    json.RawMessage `json:"message"`    // CloudWatch
	Payload    *payload        `json:"protoPayload"`
	Labels     map[string]text `json:"labels"`
}

// value adds the event or events of a value.
func (l *Log) value(file string, line int, value []byte, wraps int) {
	var e event
	if err := json.Unmarshal(value, &e); err != nil {
		l.Faults.Add(file, line, "this is no audit event: %s", typeError(err))
		return
	}
	if e.User != nil || e.Verb != "" {
		l.add(&e)
		return
	}
	if e.Payload != nil {
		if e.fromCloudLogging() {
			l.add(&e)
			return
		}
		l.Faults.Add(file, line, "this is a log entry of Google Cloud, but not of a Kubernetes API")
		return
	}
	inner := slices.Concat(e.Items, e.Records, e.Events, e.LogEvents)
	for _, wrapped := range []json.RawMessage{e.Properties, e.Log, e.Message} {
		if len(wrapped) > 0 {
			inner = append(inner, wrapped)
		}
	}
	switch {
	case len(inner) == 0 && (strings.HasSuffix(string(e.Kind), "List")):
	case len(inner) == 0:
		l.Faults.Add(file, line, "this is JSON, but no audit event: it has no verb and no user")
	case wraps == maxWraps:
		l.Faults.Add(file, line, "this is wrapped in more than %d others", maxWraps)
	}
	if wraps == maxWraps {
		return
	}
	for _, w := range inner {
		l.wrapped(file, line, w, wraps+1)
	}
}

// wrapped adds what stands in an envelope: an object, or a string that holds one.
func (l *Log) wrapped(file string, line int, value json.RawMessage, wraps int) {
	value = bytes.TrimSpace(value)
	if len(value) > 0 && value[0] == '"' {
		var s string
		if json.Unmarshal(value, &s) == nil {
			value = json.RawMessage(strings.TrimSpace(s))
		}
	}
	if len(value) == 0 || value[0] != '{' {
		l.Faults.Add(file, line, "what is wrapped here is no JSON object")
		return
	}
	l.value(file, line, value, wraps)
}

// typeError says which field has another type than it should, and not what
// stands there.
func typeError(err error) string {
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) && t.Field != "" {
		return "its " + t.Field + " is a " + t.Value
	}
	return "it cannot be decoded"
}

// The annotations of an event that tell what was decided, and by whom.
const (
	annotationDecision = "authorization.k8s.io/decision"
	annotationReason   = "authorization.k8s.io/reason"
)

// add adds an event.
func (l *Log) add(e *event) {
	l.Events++
	if e.Stage == "RequestReceived" {
		l.Early++
		return
	}
	real, who := e.user()
	if who == nil || who.Username == "" {
		l.Nobody++
		return
	}
	if !e.asks() {
		l.Undecided++
		return
	}
	allowed, ok := l.decided(e)
	if !ok {
		l.Undecided++
		return
	}
	at := e.time()
	l.Window.Add(at)
	a := l.activity(who)
	a.Window.Add(at)
	// A request that goes on, such as a watch, is told when it has begun and
	// when it ends, and one of the two may be outside of the log.
	count := 1
	if e.Stage == "ResponseStarted" {
		count = 0
	}
	into := a.allowed
	switch {
	case !allowed:
		into = a.refused
	case e.elsewhere():
		into = a.elsewhere
	}
	for _, r := range e.requests() {
		a.record(into, r, count, at)
	}
	if real != nil && real.Username != "" && allowed {
		impersonator := l.activity(real)
		impersonator.Window.Add(at)
		impersonator.constrained = impersonator.constrained || e.AuthenticationMetadata != nil && e.AuthenticationMetadata.Constraint != ""
		for _, r := range impersonations(who) {
			impersonator.record(impersonator.allowed, r, count, at)
		}
	}
}

// user returns whose permissions a request was held against; where that is not
// who sent it, also that.
func (e *event) user() (real, who *identity) {
	if e.ImpersonatedUser != nil && e.ImpersonatedUser.Username != "" {
		return e.User, e.ImpersonatedUser
	}
	return nil, e.User
}

func (l *Log) activity(who *identity) *Activity {
	s, err := rbac.ParseSubject("user:" + string(who.Username))
	if err != nil {
		s = rbac.Subject{Kind: rbac.User, Name: string(who.Username)}
	}
	a := l.activities[s]
	if a == nil {
		a = &Activity{Subject: s, allowed: map[what]*use{}, refused: map[what]*use{}, elsewhere: map[what]*use{}}
		l.activities[s] = a
	}
	for _, g := range who.Groups {
		if len(a.Groups) < maxNames && !slices.Contains(a.Groups, string(g)) && !slices.Contains(s.Groups(), string(g)) {
			a.Groups = append(a.Groups, string(g))
			slices.Sort(a.Groups)
		}
	}
	return a
}

// decided says whether a request was authorized; ok is false where the event
// does not tell.
func (l *Log) decided(e *event) (allowed, ok bool) {
	switch e.Annotations[annotationDecision] {
	case "allow":
		return true, true
	case "forbid":
		return false, true
	}
	if e.ResponseStatus == nil || e.ResponseStatus.Code == 0 {
		return false, false
	}
	l.Guessed++
	code := e.ResponseStatus.Code
	return code != 401 && code != 403, true
}

// elsewhere says that another authorizer than RBAC allowed the request. The
// reason is empty for the group system:masters.
func (e *event) elsewhere() bool {
	reason := e.Annotations[annotationReason]
	return reason != "" && !strings.HasPrefix(string(reason), "RBAC:")
}

func (e *event) time() time.Time {
	for _, t := range []text{e.Received, e.At, e.Timestamp} {
		if at, err := time.Parse(time.RFC3339Nano, string(t)); err == nil {
			return at
		}
	}
	return time.Time{}
}

// asks says whether the event tells what was asked for.
func (e *event) asks() bool {
	return e.Verb != "" && (e.RequestURI != "" || e.ObjectRef != nil && e.ObjectRef.Resource != "")
}

// requests returns what was authorized: an update or apply that made its object
// was held against create, too.
func (e *event) requests() []rbac.Request {
	verb := strings.ToLower(string(e.Verb))
	if e.ObjectRef == nil || e.ObjectRef.Resource == "" {
		path, _, _ := strings.Cut(string(e.RequestURI), "?")
		return []rbac.Request{{Verb: verb, Path: path}}
	}
	o := e.ObjectRef
	r := rbac.Request{
		Verb: verb, Group: string(o.APIGroup), Resource: string(o.Resource), Subresource: string(o.Subresource),
		Name: string(o.Name), Namespace: string(o.Namespace),
	}
	if group, _, ok := strings.Cut(string(o.APIVersion), "/"); ok && r.Group == "" {
		r.Group = group // as events were written once
	}
	out := []rbac.Request{r}
	switch {
	case !nameCounts(r.Verb, r.Subresource):
		// The name in the event is that of the object in the request's body,
		// which is not looked at when the request is authorized.
		out[0].Name = ""
	case (verb == "update" || verb == "patch") && r.Subresource == "" && e.ResponseStatus != nil && e.ResponseStatus.Code == 201:
		r.Verb = "create"
		out = append(out, r)
	}
	return out
}

// nameCounts says whether a request with a verb is authorized by the name of an
// object.
func nameCounts(verb, subresource string) bool {
	return verb != "deletecollection" && (verb != "create" || subresource != "")
}

// impersonations returns what one must be allowed to act as another.
func impersonations(who *identity) []rbac.Request {
	s, err := rbac.ParseSubject("user:" + string(who.Username))
	if err != nil {
		return nil
	}
	r := rbac.Request{Verb: "impersonate", Resource: "users", Name: s.Name}
	if s.Kind == rbac.ServiceAccount {
		r.Resource, r.Namespace = "serviceaccounts", s.Namespace
	}
	out := []rbac.Request{r}
	for _, g := range who.Groups {
		if !slices.Contains(s.Groups(), string(g)) {
			out = append(out, rbac.Request{Verb: "impersonate", Resource: "groups", Name: string(g)})
		}
	}
	const authentication = "authentication.k8s.io"
	if who.UID != "" {
		out = append(out, rbac.Request{Verb: "impersonate", Group: authentication, Resource: "uids", Name: string(who.UID)})
	}
	for key, values := range who.Extra {
		for _, v := range values {
			out = append(out, rbac.Request{Verb: "impersonate", Group: authentication, Resource: "userextras", Subresource: key, Name: string(v)})
		}
	}
	return out
}

// record adds a request.
func (a *Activity) record(into map[what]*use, r rbac.Request, count int, at time.Time) {
	w := what{r.Verb, r.Group, r.Resource, r.Subresource, r.Namespace, r.Path}
	u := into[w]
	if u == nil {
		if len(into) == maxKinds {
			a.dropped++
			return
		}
		u = &use{names: map[string]struct{}{}}
		into[w] = u
	}
	u.count += count
	if at.After(u.last) {
		u.last = at
	}
	if r.Name == "" {
		u.unnamed++
		return
	}
	if _, ok := u.names[r.Name]; ok {
		return
	}
	if len(u.names) == maxNames {
		u.more = true
		return
	}
	u.names[r.Name] = struct{}{}
}
