// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"context"
	"errors"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/library"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/policy"
)

// rights answers what somebody may do, out of what is known of the cluster. It
// belongs to one evaluation.
type rights struct {
	cluster policy.Cluster
	// asked is what was asked and is not known; empty if there was no such thing.
	asked string
}

// variables returns the variables authorizer and authorizer.requestResource.
func (r *rights) variables(q *request) (all, resource any) {
	if r.cluster == nil {
		u := unknownValue("what somebody may do (authorizer)")
		return u, u
	}
	return library.NewAuthorizerVal(q.user, r), library.NewResourceAuthorizerVal(q.user, r, q.attr)
}

var errRights = errors.New("what the user may do is not known")

// Authorize implements authorizer.UnconditionalAuthorizer.
func (r *rights) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetUser().GetName() == "" {
		r.asked = "who asks, and so what they may do,"
		return authorizer.DecisionNoOpinion, "", errRights
	}
	namespace := a.GetNamespace()
	if namespace == somewhere {
		r.asked = "what they may do in a namespace that is not named"
		return authorizer.DecisionNoOpinion, "", errRights
	}
	what := rbac.Request{Verb: a.GetVerb()}
	if a.IsResourceRequest() {
		what.Group, what.Resource, what.Subresource = a.GetAPIGroup(), a.GetResource(), a.GetSubresource()
		what.Namespace, what.Name = namespace, a.GetName()
	} else {
		what.Path = a.GetPath()
	}
	allowed, known := r.cluster.Can(userInfo(a.GetUser()), what)
	switch {
	case !known:
		r.asked = fmt.Sprintf("whether %s may %s %s%s", a.GetUser().GetName(), what.Verb, what.Resource, what.Path)
		return authorizer.DecisionNoOpinion, "", errRights
	case allowed:
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func userInfo(u user.Info) *authenticationv1.UserInfo {
	out := &authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	for k, v := range u.GetExtra() {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[k] = v
	}
	return out
}
