// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/engine"
)

// The paths of the webhooks: one for each failure policy, so that the
// configuration of each says what the API server does when no one answers, and
// one that makes fixes.
const (
	FailPath   = "/validate/fail"
	IgnorePath = "/validate/ignore"
	MutatePath = "/mutate"
)

// Engines are what requests are judged by; one that is nil has not been made
// yet, and its webhook answers that it is not ready.
type Engines struct {
	// Fail and Ignore run the rules of one failure policy each: see Enforced.
	Fail, Ignore *engine.Engine
	// Mutate runs all rules, and makes the fixes of those that say so.
	Mutate *engine.Engine
}

// HandlerOptions say what a handler answers by.
type HandlerOptions struct {
	Options // but for the failure policy, which the path says
	// Engines returns what is in force now. It is called for every request.
	Engines func() Engines
	// Answered is told of every answer, if it is set.
	Answered func(Answer)
	// Refused is told why a request got no answer, in a word for a metric, if
	// it is set: method, client, type, size, slow, body, version, busy,
	// not-ready or fault.
	Refused func(reason string)
	// Limits bound what callers can make the handler do; DefaultLimits where
	// they are zero.
	Limits Limits
	// Clients are the common names of the client certificates that may ask,
	// where the server asks for any (see NewServer); empty lets every caller
	// ask. Such a caller learns what it could learn from the baseline, and can
	// cost what Limits allow.
	Clients []string
	// Now is the clock; time.Now if it is nil.
	Now func() time.Time
}

// Answer is an answered request.
type Answer struct {
	Request *admissionv1.AdmissionRequest // without its objects
	Outcome Outcome
	Policy  v1alpha1.FailurePolicy // empty for a mutation
	Took    time.Duration
}

// NewHandler returns a handler of AdmissionReviews. What it cannot answer it
// refuses with a status that is not 200, so that the API server does what the
// webhook's failurePolicy says.
func NewHandler(opts HandlerOptions) http.Handler {
	h := &handler{HandlerOptions: opts, limiter: newLimiter(opts.Limits)}
	if h.Now == nil {
		h.Now = time.Now
	}
	mux := http.NewServeMux()
	mux.Handle(FailPath, h.webhook(v1alpha1.FailClosed, func(e Engines) *engine.Engine { return e.Fail }, (*request).review))
	mux.Handle(IgnorePath, h.webhook(v1alpha1.FailOpen, func(e Engines) *engine.Engine { return e.Ignore }, (*request).review))
	mux.Handle(MutatePath, h.webhook("", func(e Engines) *engine.Engine { return e.Mutate }, (*request).mutate))
	return mux
}

type handler struct {
	HandlerOptions
	limiter *limiter
}

// refusal is why a request gets no answer.
type refusal struct {
	status int
	reason string // for a metric
	text   string
}

// Error implements error.
func (r *refusal) Error() string { return r.text }

func refuse(status int, reason, format string, args ...any) *refusal {
	return &refusal{status, reason, fmt.Sprintf(format, args...)}
}

// judge is what a webhook does with a request.
type judge func(*request, *engine.Engine, Options) Outcome

// webhook returns the handler of one path.
func (h *handler) webhook(policy v1alpha1.FailurePolicy, choose func(Engines) *engine.Engine, do judge) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer h.recover(w)
		start := h.Now()
		a, err := h.serve(w, r, choose, do, policy)
		if err != nil {
			h.refuse(w, err)
			return
		}
		if h.Answered != nil {
			a.Policy, a.Took = policy, h.Now().Sub(start)
			h.Answered(*a)
		}
	})
}

// recover keeps a fault from ending the process, and its trace from the caller.
// It is deferred.
func (h *handler) recover(w http.ResponseWriter) {
	if recover() != nil {
		h.refuse(w, refuse(http.StatusInternalServerError, "fault", "a fault in Sconce kept this request from being judged; please report it, with the object"))
	}
}

func (h *handler) refuse(w http.ResponseWriter, err error) {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		r = refuse(http.StatusInternalServerError, "fault", "%v", err)
	}
	if h.Refused != nil {
		h.Refused(r.reason)
	}
	if r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if r.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	http.Error(w, r.text, r.status)
}

// serve answers a request.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, choose func(Engines) *engine.Engine, do judge, policy v1alpha1.FailurePolicy) (*Answer, error) {
	if err := h.check(r); err != nil {
		return nil, err
	}
	leave, err := h.limiter.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	// The API server must still be there when the answer comes.
	ctx, cancel := context.WithTimeout(r.Context(), h.timeout(r)*3/5)
	defer cancel()
	body, err := h.limiter.read(w, r, h.timeout(r))
	if err != nil {
		return nil, err
	}
	defer body.release()
	done, err := h.limiter.turn(ctx, len(body.data))
	if err != nil {
		return nil, err
	}
	defer done()
	review, unread := decode(body.data)
	if unread != nil {
		if review = beside(body.data); review == nil {
			return nil, unread
		}
	}
	review.late = func() bool { return ctx.Err() != nil }
	e := choose(h.Engines())
	if e == nil {
		return nil, refuse(http.StatusServiceUnavailable, "not-ready", "the rules have not been read yet")
	}
	opts := h.Options
	opts.Now = h.Now()
	opts.FailurePolicy = policy
	out := review.allow(Skipped)
	switch {
	case policy == "" && !review.plain(), policy != "" && review.skipped(e):
	case unread != nil && policy == "":
		out = review.unjudged("object", unread, opts)
	case unread != nil:
		out = review.unreadable(e, "object", unread, opts)
	default:
		out = do(review, e, opts)
	}
	return &Answer{Request: review.AdmissionRequest, Outcome: out}, write(w, out.Response)
}

// check refuses what need not be read.
func (h *handler) check(r *http.Request) error {
	if r.Method != http.MethodPost {
		return refuse(http.StatusMethodNotAllowed, "method", "method %s; want POST of an AdmissionReview", r.Method)
	}
	if len(h.Clients) > 0 && !h.knows(r) {
		return refuse(http.StatusForbidden, "client", "the client certificate is none that may ask: have the API server present one of those that Sconce was told of")
	}
	if t := r.Header.Get("Content-Type"); !isJSON(t) {
		return refuse(http.StatusUnsupportedMediaType, "type", "content type %q; want application/json", line(t, 80))
	}
	return nil
}

// knows says whether the caller has shown a certificate that may ask.
func (h *handler) knows(r *http.Request) bool {
	return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && slices.Contains(h.Clients, r.TLS.VerifiedChains[0][0].Subject.CommonName)
}

// timeout is how long the API server waits for the answer: it says so.
func (h *handler) timeout(r *http.Request) time.Duration {
	longest := h.limiter.Timeout
	if asked, err := time.ParseDuration(r.URL.Query().Get("timeout")); err == nil && asked > 0 {
		return min(asked, longest)
	}
	return longest
}

// answerType is what every answer is.
var answerType = metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"}

// write sends an answer.
func write(w http.ResponseWriter, response *admissionv1.AdmissionResponse) error {
	data, err := json.Marshal(&admissionv1.AdmissionReview{TypeMeta: answerType, Response: response})
	if err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data) // a caller that has gone is no fault
	return nil
}
