// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"sconce.dev/sconce/admission"
)

// SecretName is the Secret in the agent's namespace that holds the webhook's
// certificates.
const SecretName = "sconce-webhook"

// secretStore keeps the certificates in the Secret.
type secretStore struct {
	client typedcorev1.SecretInterface
}

// Load implements admission.Store.
func (s secretStore) Load(ctx context.Context) (map[string][]byte, string, error) {
	secret, err := s.client.Get(ctx, SecretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading the Secret %s: %w", SecretName, err)
	}
	return secret.Data, secret.ResourceVersion, nil
}

// Save implements admission.Store.
func (s secretStore) Save(ctx context.Context, data map[string][]byte, version string) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: SecretName, Labels: map[string]string{managedBy: Name}},
		Data:       data,
	}
	var err error
	if version == "" {
		_, err = s.client.Create(ctx, secret, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		err = s.replace(ctx, data, version)
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) && version != "" {
		return admission.ErrConflict
	}
	if err != nil {
		return fmt.Errorf("writing the Secret %s: %w", SecretName, err)
	}
	return nil
}

// replace puts data into the Secret and leaves what else it says.
func (s secretStore) replace(ctx context.Context, data map[string][]byte, version string) error {
	secret, err := s.client.Get(ctx, SecretName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if secret.ResourceVersion != version {
		return admission.ErrConflict
	}
	secret.Data = data
	_, err = s.client.Update(ctx, secret, metav1.UpdateOptions{FieldManager: fieldManager})
	return err
}

// refreshing is how often the certificates are looked at, beside whenever the
// Secret changes: to renew what is due.
const refreshing = 10 * time.Minute

// certificates keeps the webhook's certificates. Every replica does.
type certificates struct {
	*admission.Certificates
	secret  signal // raised when the Secret has changed
	renewed signal // raised when the bundle has changed
	bundle  atomic.Pointer[[]byte]
	log     *slog.Logger
	metrics *metrics
}

// refresh loads the certificates, and renews what is due.
func (c *certificates) refresh(ctx context.Context) error {
	bundle, err := c.Refresh(ctx)
	if err != nil {
		return err
	}
	setTime(c.metrics.expiry, c.Expires())
	before := c.bundle.Swap(&bundle)
	if before == nil || !bytes.Equal(*before, bundle) {
		c.log.Info("certificates of the webhook", "expires", c.Expires())
		c.renewed.raise()
	}
	return nil
}

// ca returns the bundle that webhook configurations must hold; nil if there is
// none yet.
func (c *certificates) ca() []byte {
	if b := c.bundle.Load(); b != nil {
		return *b
	}
	return nil
}
