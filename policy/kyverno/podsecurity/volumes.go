// SPDX-License-Identifier: Apache-2.0

package podsecurity

import (
	"reflect"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// volumeFields are the sources of the volumes that the check refuses. A volume
// without a source that is known counts as one of an unknown type.
func volumeFields(p *Pod, c check) []Field {
	var out []Field
	for i, v := range p.spec.Volumes {
		if c.refuses(corev1.PodSpec{Volumes: []corev1.Volume{v}}) {
			out = append(out, p.inSpec("volumes", strconv.Itoa(i), sourceOf(&v)).holds())
		}
	}
	return out
}

// sourceOf returns the name of the first source that a volume has, in the order
// in which the API declares them.
func sourceOf(v *corev1.Volume) string {
	s := reflect.ValueOf(v.VolumeSource)
	for i := range s.NumField() {
		if !s.Field(i).IsNil() {
			name, _, _ := strings.Cut(s.Type().Field(i).Tag.Get("json"), ",")
			return name
		}
	}
	return "unknown"
}
