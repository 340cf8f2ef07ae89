// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/policy"
)

// hostName is a name or an address of a host, or a pattern of names.
var hostName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)

// checkNetwork checks what rules may ask outside.
func checkNetwork(errs *Errors, e *entry[v1alpha1.Baseline], n *v1alpha1.Network) {
	if n == nil {
		return
	}
	for _, list := range []struct {
		field string
		hosts []string
	}{{"spec.network.hosts", n.Hosts}, {"spec.network.registries", n.Registries}} {
		for i, h := range list.hosts {
			if !isHost(h) {
				at := fmt.Sprintf("%s[%d]", list.field, i)
				*errs = append(*errs, e.errorf(at, "%s is %q; want the name or the address of a host, with a port where only that one is meant, as in example.com, *.example.com or 10.0.0.7:8443", at, h))
			}
		}
	}
	if n.TrustedRoot != "" && !json.Valid([]byte(n.TrustedRoot)) {
		*errs = append(*errs, e.errorf("spec.network.trustedRoot", "spec.network.trustedRoot is no JSON; want the text of a trusted_root.json of Sigstore"))
	}
}

func isHost(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	if _, err := netip.ParseAddrPort(text); err == nil {
		return true
	}
	host, port, found := strings.Cut(text, ":")
	if n, err := strconv.ParseUint(port, 10, 16); found && (err != nil || n == 0) {
		return false
	}
	return hostName.MatchString(host)
}

// networkOf returns what rules of a baseline may ask outside: what it says
// itself, or the nearest that it extends and that says something.
func (l *Library) networkOf(b *v1alpha1.Baseline) *policy.Network {
	var n *v1alpha1.Network
	for _, name := range l.ancestors(b.Name, map[string]bool{}) {
		if own := l.baselines[name].doc.Spec.Network; own != nil {
			n = own
		}
	}
	if n == nil || len(n.Hosts)+len(n.Registries) == 0 {
		return nil
	}
	return &policy.Network{Hosts: n.Hosts, Registries: n.Registries, TrustedRoot: []byte(n.TrustedRoot)}
}
