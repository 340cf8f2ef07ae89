// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/helm"
	"sconce.dev/sconce/source/kustomize"
)

// ShimEnv is the environment variable that, set to 1, makes main call HelmShim
// with its arguments instead of anything else. Kustomize inflates charts by a
// command, and this program is that command.
const ShimEnv = "SCONCE_HELM_SHIM"

// The shim learns its limits from the worker.
const (
	memoryEnv = "SCONCE_HELM_SHIM_MEMORY"
	rootEnv   = "SCONCE_HELM_SHIM_ROOT"
)

// HelmShim answers as the parts of Helm's command line that Kustomize uses:
// version, template, and pull, which it refuses. It returns the exit code.
func HelmShim(args []string, stdout, stderr io.Writer) int {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	log.SetOutput(io.Discard)
	if mib, err := strconv.Atoi(os.Getenv(memoryEnv)); err == nil {
		watch(mib, func() {
			complain(stderr, errors.New("rendering its chart "+tooMuch(mib)))
			os.Exit(1)
		})
		defer unwatch()
	}
	var err error
	switch {
	case len(args) > 0 && args[0] == "version":
		_, err = fmt.Fprintln(stdout, "v4.3.1")
	case len(args) > 0 && args[0] == "template":
		err = template(args[1:], stdout)
	case len(args) > 0 && args[0] == "pull":
		err = pull(args[1:])
	default:
		err = fmt.Errorf("want version, template or pull; got %q", args)
	}
	if err != nil {
		complain(stderr, err)
		return 1
	}
	return 0
}

// complain writes an error so that package kustomize finds it again in the
// message that Kustomize wraps it in.
func complain(stderr io.Writer, err error) {
	e := kustomize.Error{Msg: err.Error()}
	var he *helm.Error
	if errors.As(err, &he) {
		e = kustomize.Error(*he)
	}
	text, _ := json.Marshal(e)
	_, _ = fmt.Fprintf(stderr, "%s%s\n", kustomize.HelmComplaint, text) // there is nowhere else to say it
}

// pull says where the chart must be.
func pull(args []string) error {
	chart, dir := "", ""
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--untar", args[i] == "--devel":
		case args[i] == "--untardir" && i+1 < len(args):
			i++
			dir = args[i]
		case strings.HasPrefix(args[i], "--"):
			i++
		default:
			chart = args[i]
		}
	}
	name := chart[strings.LastIndexByte(chart, '/')+1:]
	return fmt.Errorf("chart %s is not vendored at %s: put it there; Sconce does not use the network", chart, filepath.Join(dir, name))
}

// inflation is what `helm template` was asked for.
type inflation struct {
	opts                 helm.Options
	args                 []string
	crds, noHooks, tests bool
}

// template prints the chart's objects as one stream.
func template(args []string, stdout io.Writer) error {
	in, err := parseTemplate(args)
	if err != nil {
		return err
	}
	out, err := helm.Render(in.args[len(in.args)-1], in.opts)
	if err != nil {
		return err
	}
	for _, doc := range out.Docs {
		if doc.Verbatim && !in.crds {
			continue
		}
		for text := range object.Split(doc.Text) {
			if in.leaves(text) {
				continue
			}
			body := strings.TrimPrefix(string(text.Bytes), "---")
			if _, err := fmt.Fprintf(stdout, "---\n# Source: %s\n%s\n", doc.Template, strings.TrimSpace(body)); err != nil {
				return err
			}
		}
	}
	return nil
}

// leaves says whether a document is a hook that is to be left out.
func (in *inflation) leaves(text object.Text) bool {
	if !in.noHooks && in.tests {
		return false
	}
	root, err := object.ParseYAML(text)
	if err != nil || root == nil {
		return false
	}
	hook := root.At("metadata", "annotations", "helm.sh/hook").Str()
	return hook != "" && (in.noHooks || strings.HasPrefix(hook, "test"))
}

// parseTemplate reads the flags that Kustomize passes.
func parseTemplate(args []string) (*inflation, error) {
	in := &inflation{tests: true}
	in.opts.Root = os.Getenv(rootEnv)
	with := map[string]func(string){
		"--namespace":     func(v string) { in.opts.Namespace = v },
		"--name-template": func(v string) { in.opts.ReleaseName = v },
		"-f":              func(v string) { in.opts.ValueFiles = append(in.opts.ValueFiles, v) },
		"--values":        func(v string) { in.opts.ValueFiles = append(in.opts.ValueFiles, v) },
		"--api-versions":  func(v string) { in.opts.APIVersions = append(in.opts.APIVersions, v) },
		"--kube-version":  func(v string) { in.opts.KubeVersion = v },
	}
	without := map[string]func(){
		"--include-crds":  func() { in.crds = true },
		"--no-hooks":      func() { in.noHooks = true },
		"--skip-tests":    func() { in.tests = false },
		"--generate-name": func() {},
		"--debug":         func() {},
		"--devel":         func() {},
	}
	for i := 0; i < len(args); i++ {
		switch set, flag := with[args[i]], without[args[i]]; {
		case set != nil && i+1 < len(args):
			i++
			set(args[i])
		case flag != nil:
			flag()
		case strings.HasPrefix(args[i], "-"):
			return nil, fmt.Errorf("flag %s is not known", args[i])
		default:
			in.args = append(in.args, args[i])
		}
	}
	switch len(in.args) {
	case 1:
	case 2:
		in.opts.ReleaseName = in.args[0]
	default:
		return nil, fmt.Errorf("want a chart; got %q", in.args)
	}
	return in, nil
}
