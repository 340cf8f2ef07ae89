package placeholder
import (
 _ "github.com/google/go-cmp/cmp"
 _ "github.com/rogpeppe/go-internal/testscript"
 _ "pgregory.net/rapid"
 _ "github.com/santhosh-tekuri/jsonschema/v6"
 _ "k8s.io/pod-security-admission/policy"
 _ "k8s.io/api/core/v1"
)
