// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/control"
)

var today = time.Date(2027, 1, 15, 0, 0, 0, 0, time.UTC)

// doc is a document whose spec is YAML.
func doc(t testing.TB, kind, name, spec string) document {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(spec), &value); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return document{key: key{kind, name}, Spec: data}
}

func enforced(t testing.TB, more string) document {
	return doc(t, "Baseline", "cluster", "title: What this cluster is held against\nextends: [standard]\n"+more)
}

const ownControl = `
title: Things are as they are to be
description: Whoever reads this learns nothing.
remediation: Leave things as they are.
severity: low
layer: application
phase: build
topic: tests
match: {pods: true}
require: "%s"
message: things are not as they are to be
`

const exception = `
controls: [privileged-container]
match: {namespaces: [shop]}
reason: it was always so
owner: the shop
expires: "%s"
`

func (c *compiler) mustCompile(t *testing.T, docs ...document) *set {
	t.Helper()
	s, wrong := c.compile(docs, today)
	if s == nil {
		t.Fatal(wrong)
	}
	return s
}

var usual = &compiler{baseline: "cluster", version: control.Minor(37)}

// TestCompile holds what makes a set, and of which document an error is said.
func TestCompile(t *testing.T) {
	good := doc(t, "Control", "own", fmt.Sprintf(ownControl, "true"))
	for _, c := range []struct {
		name      string
		documents []document
		whole     bool // there is a set all the same
		in        key
		says      string
	}{
		{"nothing is wrong", []document{enforced(t, ""), good, doc(t, "Exception", "shop", fmt.Sprintf(exception, "2027-01-15"))}, true, key{}, ""},
		{"the enforced Baseline is not there", []document{good}, false, key{}, `there is no Baseline "cluster"`},
		{"the enforced Baseline names no control", []document{enforced(t, "controls: [{name: no-such-control}]")}, false, key{"Baseline", "cluster"}, `unknown control "no-such-control"`},
		{"a field does not exist", []document{enforced(t, "acton: deny")}, false, key{"Baseline", "cluster"}, "acton"},
		{"nothing is on", []document{enforced(t, "controls: [{select: {}, disabled: true}]")}, false, key{"Baseline", "cluster"}, "no control is on"},
		{"CEL does not compile", []document{enforced(t, ""), doc(t, "Control", "own", fmt.Sprintf(ownControl, "object.spec."))}, false, key{"Control", "own"}, "spec.require"},
		{"a control takes the name of a built-in one", []document{enforced(t, ""), doc(t, "Control", "privileged-container", fmt.Sprintf(ownControl, "true"))}, false, key{"Control", "privileged-container"}, "is defined twice"},
		{"an exception names no control", []document{enforced(t, ""), doc(t, "Exception", "shop", strings.Replace(fmt.Sprintf(exception, "2027-01-15"), "privileged-", "privilege-", 1))}, false, key{"Exception", "shop"}, "did you mean privileged-container?"},
		{"an exception has expired", []document{enforced(t, ""), doc(t, "Exception", "shop", fmt.Sprintf(exception, "2027-01-14"))}, true, key{}, ""},
		{"a Baseline of which nothing depends", []document{enforced(t, ""), doc(t, "Baseline", "draft", "title: A draft\nextends: [no-such-baseline]\n")}, true, key{"Baseline", "draft"}, "unknown baseline"},
		{"a Baseline that the enforced one extends", []document{enforced(t, "controls: []"), doc(t, "Baseline", "ours", "title: Ours\ncontrols: [{name: no-such-control}]\n"), doc(t, "Baseline", "cluster2", "title: x\n")}, true, key{"Baseline", "ours"}, "unknown control"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, wrong := usual.compile(c.documents, today)
			if (s != nil) != c.whole {
				t.Errorf("made a set: %t, want %t: %v", s != nil, c.whole, wrong)
			}
			if c.says == "" && len(wrong) > 0 {
				t.Errorf("wrong: %v", wrong)
			}
			if !strings.Contains(wrong[c.in], c.says) {
				t.Errorf("of %s it is said %q, want %q; all: %v", c.in, wrong[c.in], c.says, wrong)
			}
			if strings.ContainsAny(wrong.Error(), "\n") {
				t.Errorf("not one line: %q", wrong.Error())
			}
		})
	}
}

// TestCompileExtended holds that a mistake in what the enforced Baseline extends
// hinders.
func TestCompileExtended(t *testing.T) {
	s, wrong := usual.compile([]document{
		doc(t, "Baseline", "cluster", "title: Enforced\nextends: [ours]\n"),
		doc(t, "Baseline", "ours", "title: Ours\nextends: [standard]\ncontrols: [{name: no-such-control}]\n"),
	}, today)
	if s != nil || wrong[key{"Baseline", "ours"}] == "" {
		t.Errorf("made a set: %t, wrong: %v", s != nil, wrong)
	}
}

// TestExpired holds that an exception that has expired is told of, and that the
// day is what decides.
func TestExpired(t *testing.T) {
	docs := []document{enforced(t, ""), doc(t, "Exception", "shop", fmt.Sprintf(exception, "2027-01-15"))}
	if s := usual.mustCompile(t, docs...); len(s.expired) > 0 {
		t.Errorf("expired: %v", s.expired)
	}
	s, _ := usual.compile(docs, today.AddDate(0, 0, 1))
	if len(s.expired) != 1 || s.expired[0] != "shop" {
		t.Errorf("expired: %v, want shop", s.expired)
	}
}

// TestVersion holds that a Baseline that names no version is one for the
// cluster's.
func TestVersion(t *testing.T) {
	c := &compiler{baseline: "cluster", version: control.Minor(35)}
	if s := c.mustCompile(t, enforced(t, "")); s.baseline.Version.String() != "1.35" {
		t.Errorf("version %s, want 1.35", s.baseline.Version)
	}
	if s := c.mustCompile(t, enforced(t, `kubernetesVersion: "1.34"`)); s.baseline.Version.String() != "1.34" {
		t.Errorf("version %s, want 1.34", s.baseline.Version)
	}
	for server, want := range map[string]string{"v1.37.1": "1.37.1", "v1.36.2-gke.100": "1.36", "v1.35.0+k3s1": "1.35", "": ""} {
		if got := baselineVersion(server); got != want {
			t.Errorf("version of %q is %q, want %q", server, got, want)
		}
	}
}

// TestPack holds that what is kept is what was in force, to the letter, and that
// what is too large is refused.
func TestPack(t *testing.T) {
	s := usual.mustCompile(t, enforced(t, ""), doc(t, "Control", "own", fmt.Sprintf(ownControl, "1 < 2 && 'ü' > '&'")))
	data, err := pack(s.documents)
	if err != nil {
		t.Fatal(err)
	}
	back, err := unpack(data)
	if err != nil {
		t.Fatal(err)
	}
	if hash(back) != s.hash {
		t.Errorf("hash %s, want %s", hash(back), s.hash)
	}
	if again := usual.mustCompile(t, back...); again.hash != s.hash {
		t.Errorf("hash %s, want %s", again.hash, s.hash)
	}
	for name, bad := range map[string][]byte{"no gzip": []byte("x"), "cut off": data[:len(data)/2], "nothing": nil} {
		if _, err := unpack(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	random := make([]byte, maxPacked)
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	spec, err := json.Marshal(random)
	if err != nil {
		t.Fatal(err)
	}
	large := []document{{key: key{"Exception", "large"}, Spec: spec}}
	if _, err := pack(large); err == nil || !strings.Contains(err.Error(), "the most that is kept") {
		t.Errorf("got %v for a set that is too large", err)
	}
}

// TestManyExceptions holds that thousands of exceptions are a matter of a
// moment, and are small enough to be kept.
func TestManyExceptions(t *testing.T) {
	docs := []document{enforced(t, "")}
	for i := range 5000 {
		docs = append(docs, doc(t, "Exception", fmt.Sprintf("x%d", i), strings.Replace(fmt.Sprintf(exception, "2027-06-01"), "[shop]", fmt.Sprintf("[shop-%d]", i), 1)))
	}
	start := time.Now()
	s := usual.mustCompile(t, docs...)
	t.Logf("5,000 exceptions compiled in %s", time.Since(start))
	data, err := pack(s.documents)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("and kept in %d KiB", len(data)>>10)
}

// TestHash holds that the order in which documents come does not matter, and
// all else does.
func TestHash(t *testing.T) {
	a, b := enforced(t, ""), doc(t, "Control", "own", fmt.Sprintf(ownControl, "true"))
	one, other := usual.mustCompile(t, a, b), usual.mustCompile(t, b, a)
	if one.hash != other.hash {
		t.Error("the order of documents changes the hash")
	}
	if s := usual.mustCompile(t, a); s.hash == one.hash {
		t.Error("two sets have one hash")
	}
}
