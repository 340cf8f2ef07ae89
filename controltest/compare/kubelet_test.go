// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// kubeletFields are the fields of a KubeletConfiguration that flags set.
var kubeletFields = map[string]string{
	"anonymous-auth": "authentication.anonymous.enabled", "authorization-mode": "authorization.mode",
	"client-ca-file": "authentication.x509.clientCAFile", "read-only-port": "readOnlyPort",
	"streaming-connection-idle-timeout": "streamingConnectionIdleTimeout", "protect-kernel-defaults": "protectKernelDefaults",
	"make-iptables-util-chains": "makeIPTablesUtilChains", "event-qps": "eventRecordQPS", "tls-cert-file": "tlsCertFile",
	"tls-private-key-file": "tlsPrivateKeyFile", "rotate-certificates": "rotateCertificates", "rotate-server-certificates": "serverTLSBootstrap",
	"pod-max-pids": "podPidsLimit", "seccomp-default": "seccompDefault",
}

// withoutConfig are the kubelet's defaults where it is given no configuration
// file: flags keep those that they always had.
const withoutConfig = `{
	"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "readOnlyPort": 10255,
	"authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}}, "authorization": {"mode": "AlwaysAllow"}
}`

// kubeletInfo turns what was collected of a kubelet into the configuration that
// it runs with; nil where the file with it could not be read. ok is false for
// any other document.
func kubeletInfo(data []byte) (config []byte, ok bool) {
	var info struct {
		Kind string
		Data struct {
			CmdLine    string
			ConfigFile struct{ Content string }
		}
	}
	if err := json.Unmarshal(data, &info); err != nil || info.Kind != "KubeletInfo" {
		return nil, false
	}
	source := []byte(withoutConfig)
	if strings.Contains(info.Data.CmdLine, "--config") {
		content, err := base64.StdEncoding.DecodeString(info.Data.ConfigFile.Content)
		if err != nil || len(content) == 0 {
			return nil, true // not read
		}
		source = content
	}
	var doc map[string]any
	if err := yaml.Unmarshal(source, &doc); err != nil {
		return nil, true
	}
	if doc["kind"] == nil {
		doc["kind"] = "KubeletConfiguration"
	}
	args := strings.Fields(info.Data.CmdLine)
	for i, arg := range args {
		name, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !given && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			value = args[i+1]
		}
		switch field := kubeletFields[name]; {
		case !strings.HasPrefix(arg, "--"):
		case name == "tls-cipher-suites":
			set(doc, "tlsCipherSuites", strings.Split(value, ","))
		case name == "feature-gates":
			for _, gate := range strings.Split(value, ",") {
				gate, on, _ := strings.Cut(gate, "=")
				set(doc, "featureGates."+gate, scalar(on))
			}
		case field != "":
			set(doc, field, scalar(value))
		}
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return nil, true
	}
	return out, true
}

func scalar(s string) any {
	if b, err := strconv.ParseBool(s); err == nil && len(s) > 1 {
		return b
	}
	if n, err := strconv.Atoi(s); err == nil {
		return n
	}
	return s
}

func set(doc map[string]any, path string, value any) {
	first, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		doc[first] = value
		return
	}
	inner, ok := doc[first].(map[string]any)
	if !ok {
		inner = map[string]any{}
		doc[first] = inner
	}
	set(inner, rest, value)
}

// controlPlaneInfo returns what a document tells of the control plane: the
// audit policy and the encryption configuration, and, if asked for, how the API
// server is started, as a pod.
func controlPlaneInfo(data []byte, commands bool) [][]byte {
	var info struct {
		Kind string
		Data struct {
			APIServerInfo struct {
				CmdLine                                       string
				AuditPolicyFile, EncryptionProviderConfigFile struct{ Content string }
			}
		}
	}
	if err := json.Unmarshal(data, &info); err != nil || info.Kind != "ControlPlaneInfo" {
		return nil
	}
	var out [][]byte
	server := info.Data.APIServerInfo
	for _, content := range []string{server.AuditPolicyFile.Content, server.EncryptionProviderConfigFile.Content} {
		if file, err := base64.StdEncoding.DecodeString(content); err == nil && len(file) > 0 {
			out = append(out, file)
		}
	}
	if command := strings.Fields(server.CmdLine); commands && len(command) > 0 {
		words, _ := json.Marshal(command)
		out = append(out, fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kube-apiserver"}, "spec": {"containers": [{"name": "kube-apiserver", "command": %s}]}}`, words))
	}
	return out
}
