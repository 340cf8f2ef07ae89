// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"encoding/json"
	"fmt"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

func configMessage(targets ...string) *verdict.Message {
	return &verdict.Message{Config: &verdict.Config{
		Stream: verdict.StreamVersion, Program: "sconce", Version: "0.1.0", Targets: targets,
		Baseline: "restricted", KubernetesVersion: "1.36",
		Frameworks: map[string]string{
			"pss": "Pod Security Standards", "cis-1.12": "CIS Kubernetes Benchmark 1.12",
			"attack-19": "MITRE ATT&CK", "nist-800-53-r5": "NIST SP 800-53 revision 5",
		},
	}}
}

func controlMessage(name string, sev v1alpha1.Severity, title, why, do string) *verdict.Message {
	return &verdict.Message{Control: &verdict.Control{
		Name: name, Title: title, Description: why, Remediation: do, Severity: sev,
		Layer: v1alpha1.Application, Phase: v1alpha1.Build, Topic: "pod-security",
		References: v1alpha1.References{
			"pss": {"baseline/" + name}, "cis-1.12": {"5.2.2"}, "attack-19": {"T1611"}, "nist-800-53-r5": {"AC-6", "CM-7"},
		},
	}}
}

func problemMessage(stage verdict.Stage, p object.Position, text string) *verdict.Message {
	return &verdict.Message{Problem: &verdict.Problem{Stage: stage, Position: p, Message: text}}
}

func noticeMessage(kind verdict.NoticeKind, subject, text string, p object.Position) *verdict.Message {
	return &verdict.Message{Notice: &verdict.Notice{Kind: kind, Subject: subject, Message: text, Position: p}}
}

// finding returns a failed finding of a container's field in a file.
func finding(control string, sev v1alpha1.Severity, ref object.Ref, field, message string, p object.Position) *verdict.Finding {
	path := "spec.template.spec.containers[web]." + field
	return &verdict.Finding{
		Control: control, Outcome: verdict.Fail, Severity: sev, Action: v1alpha1.Deny, Object: ref,
		Element: "containers[web]", Path: path, Message: message, Position: p,
		Fingerprint: verdict.Fingerprint(control, ref, nil, object.Path{{Field: path}}),
	}
}

func deployment(namespace, name string) object.Ref {
	return object.Ref{APIVersion: "apps/v1", Kind: "Deployment", Namespace: namespace, Name: name}
}

// at returns a position with its quote; the column is that of the first
// character that is not blank.
func at(file string, line int, text string) object.Position {
	column := len([]rune(text)) - len([]rune(strings.TrimLeft(text, " \t"))) + 1
	return object.Position{File: file, Line: line, Column: column, Quote: text, QuoteColumn: column}
}

func setEdit(path, value string) []verdict.Edit {
	return []verdict.Edit{{Op: verdict.Set, Path: path, Value: v1alpha1.Value{RawMessage: json.RawMessage(value)}}}
}

// The controls that the streams below name.
func controlMessages() []*verdict.Message {
	return []*verdict.Message{
		controlMessage("privileged-container", v1alpha1.Critical, "Containers do not run privileged",
			"A privileged container holds every capability of its node and sees all its devices; escaping it needs no exploit.",
			"Drop `privileged`; add the single capability the program needs."),
		controlMessage("read-only-root", v1alpha1.Medium, "Root filesystems are read-only",
			"A program that was taken over can write tools into its own image layer and keep them until the pod goes.",
			"Set securityContext.readOnlyRootFilesystem to true, and mount an emptyDir: {} where the program writes."),
		controlMessage("image-tag", v1alpha1.High, "Images are pinned by digest",
			"A tag can be moved: what runs tomorrow is then not what was reviewed today.",
			"Name the image by its digest."),
		controlMessage("run-as-non-root", v1alpha1.High, "Containers run as a user that is not root",
			"Root in a container is root on the node as soon as the kernel, the runtime or a mount has a hole.",
			"Set securityContext.runAsNonRoot to true."),
		controlMessage("memory-limit", v1alpha1.Low, "Containers have a memory limit",
			"A container without a limit can take the memory of its node from all others.",
			"Set resources.limits.memory."),
	}
}

// richStream has everything that a stream can have.
func richStream() []*verdict.Message {
	out := append([]*verdict.Message{configMessage("deploy", "charts/web")}, controlMessages()...)
	out = append(out, problemMessage(verdict.Parsing,
		object.Position{File: "deploy/broken.yaml", Line: 7, Column: 3, Quote: "  name: [web", QuoteColumn: 9},
		"this list has no end; close it with ]"))
	for _, f := range append(plainFindings(), oddFindings()...) {
		out = append(out, &verdict.Message{Finding: f})
	}
	out = append(out, problemMessage(verdict.Rendering, object.Position{File: "charts/db"},
		`chart "postgresql" is not in charts/; run helm dependency build charts/db`))
	for _, f := range renderedFindings() {
		out = append(out, &verdict.Message{Finding: f})
	}
	return append(out,
		noticeMessage(verdict.ExpiredException, "legacy-agents", "exception legacy-agents expired on 2026-06-30; remove or renew it", object.Position{File: ".sconce/exceptions.yaml", Line: 12, Column: 1}),
		noticeMessage(verdict.DuplicateObject, "Deployment.apps shop/web", "the same object stands in deploy/web.yaml and deploy/old.yaml", object.Position{File: "deploy/old.yaml"}),
		&verdict.Message{Summary: richSummary()})
}

// plainFindings are what most findings look like.
func plainFindings() []*verdict.Finding {
	web := deployment("shop", "web")
	privileged := finding("privileged-container", v1alpha1.Critical, web, "securityContext.privileged",
		`container "web" runs privileged`, at("deploy/web.yaml", 21, "          privileged: true"))
	privileged.Evidence = []verdict.Evidence{{Path: privileged.Path, Value: "true"}}
	privileged.Fix = &verdict.Fix{Edits: setEdit(privileged.Path, "false"), Proven: true,
		Diff: []string{"-          privileged: true", "+          privileged: false"}}

	root := finding("read-only-root", v1alpha1.Medium, web, "securityContext.readOnlyRootFilesystem",
		`container "web" can write to its root filesystem`, at("deploy/web.yaml", 20, "        securityContext:"))
	root.Missing = true
	root.Fix = &verdict.Fix{Edits: setEdit(root.Path, "true"), Proven: true,
		Note: "A program that writes outside of its volumes stops working.",
		Diff: []string{"+          readOnlyRootFilesystem: true"}}

	image := finding("image-tag", v1alpha1.High, web, "image",
		`image "nginx:latest" is named by a tag; nginx@sha256:… would be pinned`, at("deploy/web.yaml", 18, `        image: "nginx:latest"`))
	image.Fix = &verdict.Fix{Edits: setEdit(image.Path, `"nginx@sha256:0"`), Refused: "the digest of nginx:latest is not known without asking the registry"}

	user := finding("run-as-non-root", v1alpha1.High, web, "securityContext.runAsNonRoot",
		`the user of container "web" is set by its image, which was not read`, at("deploy/web.yaml", 20, "        securityContext:"))
	user.Outcome, user.Missing = verdict.Unknown, true
	user.Evidence = []verdict.Evidence{{Path: user.Path, Value: "absent"}}

	agent := finding("privileged-container", v1alpha1.Critical, object.Ref{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "kube-system", Name: "agent"},
		"securityContext.privileged", `container "agent" runs privileged`, at("deploy/web.yaml", 55, "          privileged: true"))
	agent.Excepted = &verdict.Excepted{Exception: "node-agents", Reason: "reads the devices of its node", Owner: "platform@example.com", Expires: "2027-01-31"}

	warn := finding("memory-limit", v1alpha1.Low, web, "resources.limits.memory",
		`container "web" has no memory limit`, at("deploy/web.yaml", 17, "      - name: web"))
	warn.Action, warn.Missing = v1alpha1.Warn, true
	warn.Fix = &verdict.Fix{Edits: setEdit(warn.Path, `"256Mi"`), Note: "Choose the number that the program needs."}

	setup := finding("privileged-container", v1alpha1.Critical, web, "securityContext.privileged",
		`container "setup" runs privileged`, at("deploy/web.yaml", 30, "          privileged: true"))
	setup.Element, setup.Path = "initContainers[setup]", "spec.template.spec.initContainers[setup].securityContext.privileged"
	setup.Fingerprint = verdict.Fingerprint(setup.Control, web, nil, object.Path{{Field: setup.Path}})
	setup.Fix = &verdict.Fix{Edits: []verdict.Edit{{Op: verdict.Remove, Path: setup.Path}}}
	return []*verdict.Finding{privileged, root, image, user, agent, warn, setup}
}

// oddFindings hold what could break a report.
func oddFindings() []*verdict.Finding {
	tabs := finding("image-tag", v1alpha1.High, deployment("", "tabs"), "image",
		`image "a:1" is named by a tag`, object.Position{File: "odd dir/größe#1 & 100%.json", Line: 3, Column: 3, Quote: "\t\t\"image\":\t\"a:1\",", QuoteColumn: 3})
	wide := finding("image-tag", v1alpha1.High, deployment("", "日本語"), "image",
		`image "例え:1" is named by a tag`, object.Position{File: "odd dir/größe#1 & 100%.json", Line: 4, Column: 21, Quote: "{name: 日本語 é, image: \"例え:1\"}", QuoteColumn: 17})
	long := finding("privileged-container", v1alpha1.Critical, deployment("shop", "long"), "securityContext.privileged",
		strings.Repeat("a message that is long ", 8)+strings.Repeat("x", 120),
		object.Position{File: "odd dir/größe#1 & 100%.json", Line: 5, Column: 301, Quote: strings.Repeat("{\"a\": 1, ", 33) + "   \"privileged\": true" + strings.Repeat(", \"b\": 2", 20) + "}", QuoteColumn: 301})
	long.Fix = &verdict.Fix{Edits: setEdit(long.Path, "false"), Proven: true, Diff: []string{"-" + long.Position.Quote, "+" + strings.Replace(long.Position.Quote, `"privileged": true`, `"privileged": false`, 1)}}
	evil := finding("image-tag", v1alpha1.High, deployment("evil\x1b[2J", "a|b`c\r\n"), "image",
		"image \"\x1b]0;owned\x07\u202egnp.exe\u2066\" <script>alert(1)</script> @octocat #1 **bold** [x](http://evil.example) {0} ]]> | `code` :tada:\x00\u009b1m",
		object.Position{File: "evil\x1b[31m\n.yaml", Line: 1, Column: 1, Note: "note\r\x1b[0m"})
	evil.Position.Quote, evil.Position.QuoteColumn = "```\u202e image: </pre><img src=x onerror=alert(1)>\x7f", 6
	evil.Fix = &verdict.Fix{Proven: true, Edits: setEdit(evil.Path, "\"\u202e\""), Diff: []string{"-image: \x1b[1mx", "+image: ``` y"}}
	nowhere := finding("memory-limit", v1alpha1.Low, object.Ref{APIVersion: "v1", Kind: "Pod"}, "resources.limits.memory",
		`container "web" has no memory limit`, object.Position{})
	nowhere.Missing = true
	nowhere.Fix = &verdict.Fix{Edits: []verdict.Edit{{Op: verdict.Add, Path: "spec.list", Value: v1alpha1.Value{RawMessage: json.RawMessage("{ \"a\" : \"<\u202e\U000e0041>\", \"n\": 12345678901234567890 }")}}}}
	return []*verdict.Finding{tabs, wide, long, evil, nowhere}
}

// renderedFindings come from a chart and from two overlays over one base.
func renderedFindings() []*verdict.Finding {
	var out []*verdict.Finding
	for i := range 13 {
		f := finding("privileged-container", v1alpha1.Critical, deployment("shop", fmt.Sprintf("web-%d", i)), "securityContext.privileged",
			`container "web" runs privileged`, at("charts/web/templates/deployment.yaml", 33, "            privileged: {{ .Values.privileged }}"))
		f.Rendered, f.Source = "helm", "charts/web"
		f.Fix = &verdict.Fix{Edits: setEdit(f.Path, "false"), Diff: []string{"-            privileged: {{ .Values.privileged }}", "+            privileged: false"}}
		out = append(out, f)
	}
	lost := finding("run-as-non-root", v1alpha1.High, deployment("shop", "web-0"), "securityContext.runAsNonRoot",
		`container "web" may run as root`, object.Position{File: "charts/web/templates/_pod.tpl", Note: "the line is made by a helper template; look for runAsNonRoot in it"})
	lost.Rendered, lost.Source = "helm", "charts/web"
	out = append(out, lost)
	for _, overlay := range []string{"overlays/dev", "overlays/prod"} {
		f := finding("image-tag", v1alpha1.High, deployment(strings.TrimPrefix(overlay, "overlays/"), "api"), "image",
			`image "api:1" is named by a tag`, at("base/api.yaml", 9, "        image: api:1"))
		f.Rendered, f.Source = "kustomize", overlay
		out = append(out, f)
	}
	return out
}

func richSummary() *verdict.Summary {
	return &verdict.Summary{
		Verdicts: verdict.Counts{Pass: 310, Fail: 24, Unknown: 31, Excepted: 1},
		BySeverity: map[v1alpha1.Severity]verdict.Counts{
			v1alpha1.Critical: {Pass: 60, Fail: 15, Excepted: 1}, v1alpha1.High: {Pass: 100, Fail: 6, Unknown: 31},
			v1alpha1.Medium: {Pass: 100, Fail: 1}, v1alpha1.Low: {Pass: 50, Fail: 2},
		},
		ByCell:    map[string]verdict.Counts{"application/build": {Pass: 300, Fail: 24, Unknown: 31, Excepted: 1}, "cluster/build": {Pass: 10}},
		ByControl: map[string]verdict.Counts{"privileged-container": {Pass: 60, Fail: 15, Excepted: 1}, "host-network": {Pass: 20}, "host-pid": {Pass: 20}},
		Findings:  map[v1alpha1.Severity]int{v1alpha1.Critical: 15, v1alpha1.High: 6, v1alpha1.Medium: 1, v1alpha1.Low: 2},
		Objects:   31, Unmatched: 4, Files: 12, Other: 5, Charts: 2, Overlays: 2, Owned: 9, Problems: 2, Notices: 2, Controls: 40,
	}
}

// cleanStream found nothing.
func cleanStream() []*verdict.Message {
	return []*verdict.Message{configMessage("deploy"), {Summary: &verdict.Summary{
		Verdicts: verdict.Counts{Pass: 120}, BySeverity: map[v1alpha1.Severity]verdict.Counts{v1alpha1.High: {Pass: 120}},
		ByCell: map[string]verdict.Counts{"application/build": {Pass: 120}}, ByControl: map[string]verdict.Counts{"image-tag": {Pass: 3}},
		Objects: 3, Unmatched: 1, Files: 2, Controls: 40,
	}}}
}

// unknownStream failed nothing and could not decide or read everything.
func unknownStream() []*verdict.Message {
	user := plainFindings()[3]
	return []*verdict.Message{
		configMessage("-"), controlMessages()[3],
		problemMessage(verdict.Reading, object.Position{File: "secret.yaml"}, "permission denied; run as a user who may read it"),
		{Finding: user},
		{Summary: &verdict.Summary{
			Verdicts: verdict.Counts{Pass: 9, Unknown: 1}, BySeverity: map[v1alpha1.Severity]verdict.Counts{v1alpha1.High: {Pass: 9, Unknown: 1}},
			ByCell: map[string]verdict.Counts{"application/build": {Pass: 9, Unknown: 1}}, Objects: 1, Files: 1, Problems: 1, Controls: 10,
		}},
	}
}

// emptyStream had nothing to judge.
func emptyStream() []*verdict.Message {
	return []*verdict.Message{configMessage("docs"), {Summary: &verdict.Summary{Files: 2, Other: 2, Controls: 40}}}
}
