// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// blob reads one, and holds it against its digest.
func (t *target) blob(ctx context.Context, ref name.Digest, size int64) ([]byte, error) {
	l, err := remote.Layer(ref, t.with(ctx)...)
	if err != nil {
		return nil, err
	}
	r, err := l.Compressed() // as it is kept
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(io.LimitReader(r, size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != size {
		return nil, fmt.Errorf("it has %d bytes, and not the %d that its manifest says", len(data), size)
	}
	return data, nil
}
