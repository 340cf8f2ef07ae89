// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"

	"sconce.dev/sconce/verdict"
)

// patience says how long a server that does not answer, or refuses for now, is
// asked again.
type patience struct {
	// request is the longest that one request may take, total the longest that
	// it is tried again.
	request, total time.Duration
	backoff        wait.Backoff
}

var usual = patience{
	request: 2 * time.Minute, total: 3 * time.Minute,
	backoff: wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 100, Cap: 15 * time.Second},
}

// try calls f until it succeeds, fails for good, or patience ends.
func (c *Cluster) try(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.patience.total)
	defer cancel()
	backoff := c.patience.backoff
	for {
		err := c.once(ctx, f)
		if err == nil || !passing(err) || ctx.Err() != nil {
			return err
		}
		delay := backoff.Step()
		if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
			delay = max(delay, time.Duration(seconds)*time.Second)
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < delay {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(delay):
		}
	}
}

// once calls f with the time that one request has.
func (c *Cluster) once(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.patience.request)
	defer cancel()
	return f(ctx)
}

// passing says whether an error may be gone when the same is asked again: the
// server is busy, starts, or could not be reached.
func passing(err error) bool {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		code := status.Status().Code
		return code == 429 || code >= 500 && code != 501
	}
	return utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) || utilnet.IsProbableEOF(err) || utilnet.IsTimeout(err) ||
		utilnet.IsHTTP2ConnectionLost(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}

// problem is a problem with the cluster.
func (c *Cluster) problem(stage verdict.Stage, format string, args ...any) verdict.Problem {
	return verdict.Problem{Stage: stage, Message: fmt.Sprintf(format, args...)}
}

var forbiddenUser = regexp.MustCompile(`User "([^"]*)" cannot`)

// refused says that a kind could not be listed or watched, why, and what to do.
func (c *Cluster) refused(verb string, k Kind, namespace string, err error) verdict.Problem {
	p := c.why(verb, k, namespace, err)
	p.Of = k.GroupKind
	return p
}

func (c *Cluster) why(verb string, k Kind, namespace string, err error) verdict.Problem {
	where := ""
	if namespace != "" {
		where = " in the namespace " + namespace
	}
	doing := fmt.Sprintf("%s %s%s", verb, k, where)
	switch {
	case apierrors.IsForbidden(err):
		who := "this user"
		if m := forbiddenUser.FindStringSubmatch(err.Error()); m != nil {
			who = m[1]
		}
		return c.problem(verdict.Reading, "%s: %s may not: what is of this kind was not judged; add to its role: apiGroups: [%q], resources: [%q], verbs: [%s]", doing, who, k.Group, k.Resource, verbWord(verb))
	case apierrors.IsUnauthorized(err):
		return c.problem(verdict.Reading, "%s: the API server does not know who is asking: what is of this kind was not judged; log in again, or name another --context", doing)
	case apierrors.IsNotFound(err) && namespace != "" && k.GroupKind == namespaceKind:
		return c.problem(verdict.Reading, "there is no namespace %s; see `kubectl get namespaces`", namespace)
	case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err):
		return c.problem(verdict.Reading, "%s: the API does not serve this kind any more, though it did when the scan began: scan again", doing)
	}
	return c.problem(verdict.Reading, "%s: %s: what is of this kind was not judged, or not all of it", doing, c.reason(err))
}

// verbWord is the verb that RBAC has for what was being done.
func verbWord(doing string) string {
	switch doing {
	case "watching":
		return "watch"
	case "getting":
		return "get"
	}
	return "list"
}

// reason says why something failed, in one line.
func (c *Cluster) reason(err error) string {
	var status apierrors.APIStatus
	switch {
	case errors.Is(err, context.Canceled):
		return "stopped"
	case errors.As(err, &status) && status.Status().Code == 429:
		return "the API server is too busy to answer, and stayed so; scan again later"
	case errors.As(err, &status) && status.Status().Reason == metav1.StatusReasonUnknown && status.Status().Message == "":
		return fmt.Sprintf("the API server answered with status %d", status.Status().Code)
	case errors.Is(err, context.DeadlineExceeded) || utilnet.IsTimeout(err):
		return "the API server did not answer in time"
	}
	text, _, _ := strings.Cut(withoutURL(err).Error(), "\n")
	return verdict.Redact(text)
}
