// SPDX-License-Identifier: Apache-2.0

package enforcement

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math"
	"strings"
	"time"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// authority is the fact about the certificates by which the API server knows
// webhooks.
func authority(o *object.Object, env *facts.Env) *object.Object {
	list := o.Root.Get("webhooks")
	webhooks := facts.List()
	var places []facts.Place
	for i, w := range facts.Items(list) {
		places = append(places, facts.Place{
			Fact:   facts.Path("facts", "webhooks").Append(object.Step{Item: true, Index: i}),
			Source: facts.Path("webhooks").Append(object.ItemStep(list, i)).Fields("clientConfig", "caBundle"),
		})
		webhooks.Items = append(webhooks.Items, bundle(w, env))
	}
	return facts.New(authorityFact, o, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("live", object.NewBool(live(o))),
		facts.Field("webhooks", webhooks),
	))}, places...)
}

// bundle is what is known of the authorities of one webhook.
func bundle(w *object.Node, env *facts.Env) *object.Node {
	config := w.Get("clientConfig")
	text := config.Get("caBundle")
	if text != nil && text.HasUnknown() {
		return object.NewUnknown(text.FirstUnknown())
	}
	certificates := parseBundle(text.Str())
	fields := []object.Field{
		facts.Field("name", object.NewString(w.Get("name").Str())),
		facts.Field("service", object.NewBool(config.Get("service") != nil)),
		facts.Field("given", object.NewBool(text.Str() != "")),
		facts.Field("certificates", object.NewInt(int64(len(certificates)))),
	}
	if len(certificates) > 0 {
		fields = append(fields, facts.Field("days", days(certificates, env)))
	}
	return facts.Map(fields...)
}

// parseBundle returns the certificates of a caBundle; what is none is left out.
func parseBundle(text string) []*x509.Certificate {
	data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return out
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			out = append(out, c)
		}
	}
}

// days is how many whole days the certificate that holds longest has left; less
// than none once it has expired.
func days(certificates []*x509.Certificate, env *facts.Env) *object.Node {
	if env.Today.IsZero() {
		return object.NewUnknown("which day it is was not said")
	}
	last := certificates[0].NotAfter
	for _, c := range certificates {
		if c.NotAfter.After(last) {
			last = c.NotAfter
		}
	}
	return object.NewInt(int64(math.Floor(last.Sub(env.Today).Hours() / (24 * time.Hour).Hours())))
}
