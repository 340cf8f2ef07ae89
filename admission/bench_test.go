// SPDX-License-Identifier: Apache-2.0

//go:build unix

package admission_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
)

var pods = []struct{ name, file string }{
	{"passing", "testdata/pod-good.json"},
	{"failing", "testdata/pod-bad.json"},
}

// BenchmarkReview answers for a pod of a Deployment with the whole catalogue.
func BenchmarkReview(b *testing.B) {
	e := newEngine(b, "hardened", "", v1alpha1.FailOpen)
	for _, p := range pods {
		b.Run(p.name, func(b *testing.B) {
			req := podRequest(compact(b, p.file))
			opts := admission.Options{Baseline: "hardened", FailurePolicy: v1alpha1.FailOpen}
			out := admission.Review(e, req, opts)
			b.ReportMetric(float64(len(out.Denied)), "denied")
			b.SetBytes(int64(len(req.Object.Raw)))
			b.ReportAllocs()
			measure := cpu(b)
			for b.Loop() {
				admission.Review(e, req, opts)
			}
			measure()
		})
	}
}

// BenchmarkHandler does the same from the body to the answer.
func BenchmarkHandler(b *testing.B) {
	e := newEngine(b, "hardened", "", v1alpha1.FailOpen)
	h := admission.NewHandler(admission.HandlerOptions{Engines: func() admission.Engines { return admission.Engines{Ignore: e} }})
	for _, p := range pods {
		b.Run(p.name, func(b *testing.B) {
			body := reviewOf(b, podRequest(compact(b, p.file)))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			measure := cpu(b)
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, admission.IgnorePath, bytes.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatal(w.Code, w.Body)
				}
			}
			measure()
		})
	}
}

// BenchmarkReadJSON compares the two readers of JSON on a pod.
func BenchmarkReadJSON(b *testing.B) {
	data := compact(b, "testdata/pod-good.json")
	for _, reader := range []struct {
		name string
		read func() error
	}{
		{"ReadJSON", func() error { _, err := object.ReadJSON(data, object.MaxNodes); return err }},
		{"ParseJSON", func() error { _, err := object.ParseJSON(data); return err }},
	} {
		b.Run(reader.name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			measure := cpu(b)
			for b.Loop() {
				if err := reader.read(); err != nil {
					b.Fatal(err)
				}
			}
			measure()
		})
	}
}

// cpu returns what reports the processor time of an operation, whatever else
// the machine does: that of the garbage collector included.
func cpu(b *testing.B) func() {
	spent := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	start := spent()
	return func() { b.ReportMetric(float64(spent()-start)/float64(b.N), "cpu-ns/op") }
}
