// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "encoding/json"

// Value is any JSON value.
//
// +kubebuilder:validation:Type=""
// +kubebuilder:pruning:PreserveUnknownFields
type Value struct {
	json.RawMessage `json:"-"`
}

// UnmarshalJSON keeps the bytes as they are.
func (v *Value) UnmarshalJSON(b []byte) error {
	v.RawMessage = append(v.RawMessage[:0], b...)
	return nil
}

// MarshalJSON returns the bytes; null for an empty value.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.RawMessage == nil {
		return []byte("null"), nil
	}
	return v.RawMessage, nil
}
