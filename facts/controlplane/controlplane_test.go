// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// derived returns the facts about every object of a text.
func derived(tb testing.TB, text string, minor int) []*object.Object {
	tb.Helper()
	var out []*object.Object
	for part := range object.Split([]byte(text)) {
		root, err := object.ParseYAML(part)
		if err != nil {
			tb.Fatal(err)
		}
		objects, err := object.FromNode(root, &object.Origin{Source: "test.yaml", Text: []byte(text), FirstLine: 1})
		if err != nil {
			tb.Fatal(err)
		}
		for _, o := range objects {
			out = append(out, derive(o, &facts.Env{Minor: minor, Patch: -1})...)
		}
	}
	return out
}

// shown writes a value in one line.
func shown(n *object.Node) string {
	switch {
	case n == nil:
		return "-"
	case n.Kind == object.Unknown:
		return "unknown(" + n.Text + ")"
	case n.Kind == object.String:
		return n.Text
	case n.Kind == object.List:
		var all []string
		for _, item := range n.Items {
			all = append(all, shown(item))
		}
		return "[" + strings.Join(all, " ") + "]"
	case n.Kind == object.Map:
		var all []string
		for _, f := range n.Fields {
			all = append(all, f.Key+":"+shown(f.Value))
		}
		return "{" + strings.Join(all, " ") + "}"
	}
	return n.Scalar()
}

// explicit returns the flags that a fact says are set, with their values and
// where those are.
func explicit(o *object.Object) string {
	f := o.Root.Get("facts")
	if f.Get("explicit").Kind == object.Unknown {
		return shown(f.Get("explicit"))
	}
	var out []string
	for _, item := range f.Get("explicit").Items {
		path := object.Path(nil).Fields("facts", "flags", item.Text)
		source := o.SourcePath(path).String()
		source = source[strings.LastIndexByte("."+source, '.'):]
		out = append(out, fmt.Sprintf("%s=%s @%s", item.Text, shown(f.At("flags", item.Text)), source))
	}
	return strings.Join(out, "\n")
}

// TestCommandLines says what is read from the containers of a pod.
func TestCommandLines(t *testing.T) {
	for _, c := range []struct{ name, container, want string }{
		{"flags and values", `command: [kube-apiserver, --anonymous-auth=false, --audit-log-path, /var/log/a, --profiling]`,
			"APIServer\nanonymous-auth=false @command[1]\naudit-log-path=/var/log/a @command[2]\nprofiling=true @command[4]"},
		{"the last one counts", `command: [kube-apiserver, --profiling=true, --profiling=F]`, "APIServer\nprofiling=false @command[2]"},
		{"lists add up", `command: [kube-apiserver, "--enable-admission-plugins=A,B", "--enable-admission-plugins=C"]`, "APIServer\nenable-admission-plugins=[A B C] @command[2]"},
		{"one value each time", `command: [kube-apiserver, "--service-account-key-file=a,b", --service-account-key-file=c]`, "APIServer\nservice-account-key-file=[a,b c] @command[2]"},
		{"feature gates", `command: [kube-apiserver, "--feature-gates=A=true,kube:B=false,other:C=true,", "--feature-gates=A=false"]`, "APIServer\nfeature-gates={A:false B:false} @command[2]"},
		{"gate without a value", `command: [kube-apiserver, --feature-gates=A]`, "APIServer\nfeature-gates=unknown(the value of --feature-gates is not a list of name=true or name=false) @command[1]"},
		{"maps", `command: [kube-apiserver, "--runtime-config=api/all=true, x"]`, "APIServer\nruntime-config={api/all:true x:} @command[1]"},
		{"whole numbers", `command: [kube-apiserver, --audit-log-maxage=0x1e, --audit-log-maxsize=many]`,
			"APIServer\naudit-log-maxage=30 @command[1]\naudit-log-maxsize=unknown(the value of --audit-log-maxsize is not a whole number) @command[2]"},
		{"durations", `command: [kube-apiserver, --request-timeout=300, --event-ttl=2h]`,
			"APIServer\nrequest-timeout=unknown(the value of --request-timeout is not a duration) @command[1]\nevent-ttl=2h @command[2]"},
		{"no boolean", `command: [kube-apiserver, --profiling=no]`, "APIServer\nprofiling=unknown(the value of --profiling is not true or false) @command[1]"},
		{"no list", `command: [kube-apiserver, '--tls-cipher-suites=a"b']`, "APIServer\ntls-cipher-suites=unknown(the value of --tls-cipher-suites is not a list) @command[1]"},
		{"underscores", `command: [kube-apiserver, --anonymous_auth=false]`, "APIServer\nanonymous-auth=false @command[1]"},
		{"shorthands", `command: [kube-apiserver, -v=2, -v3, -v, "4", -vv]`, "APIServer\nv=unknown(the value of --v is not a whole number) @command[5]"},
		{"a dash too few", `command: [kube-apiserver, -anonymous-auth=false, '-', ""]`, "APIServer\n"},
		{"dashes too many", `command: [kube-apiserver, ---profiling=false, --=false, --, --profiling=false]`, "APIServer\n"},
		{"no value", `command: [kube-apiserver, --audit-log-path]`, "APIServer\n"},
		{"no value of a shorthand", `command: [kube-apiserver, -v]`, "APIServer\n"},
		{"flags that are not known", `command: [kube-apiserver, --logtostderr, --old, value, --last]`,
			"APIServer\nlogtostderr=true @command[1]\nold=value @command[2]\nlast=true @command[4]"},
		{"args and a path", "command: [/usr/local/bin/kube-apiserver]\n    args: [--profiling=false]", "APIServer\nprofiling=false @args[0]"},
		{"args only", `args: [kube-controller-manager, --profiling=false]`, "ControllerManager\nprofiling=false @args[1]"},
		{"by image", "image: registry.k8s.io/kube-scheduler:v1.30.1@sha256:00\n    args: [--profiling=false]", "Scheduler\nprofiling=false @args[0]"},
		{"another command in the image", "image: registry.k8s.io/kube-apiserver:v1.30.1\n    command: [sleep]\n    args: [--profiling=false]", ""},
		{"an image alone", "image: registry.k8s.io/etcd:3.6", ""},
		{"hyperkube", `command: [/hyperkube, apiserver, --profiling=false]`, "APIServer\nprofiling=false @command[2]"},
		{"wrappers", `command: [/go-runner, --log-file=/a, --also-stdout, nice, -n, "5", env, -i, A=b, timeout, 5m, "1", kube-scheduler, --profiling=false]`, "Scheduler\nprofiling=false @command[13]"},
		{"wrapper without a program", `command: [env, kube-apiserver-proxy]`, ""},
		{"says its version", `command: [kube-apiserver, --version]`, ""},
		{"says its flags", `command: [kube-apiserver, -h]`, ""},
		{"look-alikes", `command: [kube-apiserver-proxy, --profiling=true]`, ""},
		{"etcdctl", `command: [etcdctl, --endpoints=https://a, snapshot, save]`, ""},
		{"named in another's arguments", `command: [killall, kube-apiserver]`, ""},

		{"etcd: one dash", `command: [etcd, -client-cert-auth, --peer-client-cert-auth=0, -cert-file, a]`,
			"Etcd\nclient-cert-auth=true @command[1]\npeer-client-cert-auth=false @command[2]\ncert-file=a @command[3]"},
		{"etcd: the last list counts", `command: [etcd, "--listen-client-urls=http://a", "--listen-client-urls=https://b,https://c"]`, "Etcd\nlisten-client-urls=[https://b https://c] @command[2]"},
		{"etcd: the first word that is no flag is the end", `command: [etcd, start, --auto-tls]`, "Etcd\n"},
		{"etcd: variables", "command: [etcd, --cert-file=a]\n    env: [{name: ETCD_CERT_FILE, value: b}, {name: ETCD_KEY_FILE, value: c}, {name: ETCD_AUTO_TLS, value: ''}, {name: ETCDCTL_API, value: '3'}]",
			"Etcd\ncert-file=a @command[1]\nkey-file=c @env[ETCD_KEY_FILE]"},
		{"etcd: a variable from elsewhere", "command: [etcd]\n    env: [{name: ETCD_CERT_FILE, valueFrom: {secretKeyRef: {name: a, key: b}}}]",
			"Etcd\ncert-file=unknown(the variable ETCD_CERT_FILE is read from somewhere else) @env[ETCD_CERT_FILE]"},

		{"variables", "command: [kube-apiserver, --profiling=$(P), --audit-log-path=$(DIR)/$$(x)]\n    env: [{name: P, value: 'true'}, {name: P, value: 'false'}, {name: D, value: /var}, {name: DIR, value: $(D)/log}]",
			"APIServer\nprofiling=false @command[1]\naudit-log-path=/var/log/$(x) @command[2]"},
		{"variables that are not known", "command: [kube-apiserver, --profiling=$(P), --audit-log-path=$(NONE), '--client-ca-file=${CA}', '--token-auth-file={{ .x }}']\n    env: [{name: P, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]",
			"APIServer\nprofiling=unknown(the variable P is read from somewhere else) @command[1]\naudit-log-path=unknown(the variable NONE is not set here) @command[2]\n" +
				"client-ca-file=unknown(a template is to fill it in) @command[3]\ntoken-auth-file=unknown(a template is to fill it in) @command[4]"},
		{"a list of which a part is not known", "command: [kube-apiserver, --enable-admission-plugins=A, --enable-admission-plugins=$(MORE)]", "APIServer\nenable-admission-plugins=unknown(the variable MORE is not set here) @command[2]"},
		{"any flag at all", "command: [kube-apiserver, --profiling=false, $(MORE)]", "APIServer\nunknown(the variable MORE is not set here)"},
		{"the name is not known", "command: [kube-apiserver, --$(MORE)=false]", "APIServer\nunknown(the variable MORE is not set here)"},
		{"the value that follows is not known", "command: [kube-apiserver, --audit-log-path, $(MORE), -v, $(MORE), -v$(MORE)]",
			"APIServer\naudit-log-path=unknown(the variable MORE is not set here) @command[1]\nv=unknown(the variable MORE is not set here) @command[5]"},
		{"what follows an unknown flag", "command: [kube-apiserver, --old, $(MORE)]", "APIServer\nunknown(the variable MORE is not set here)"},
		{"no string", "command: [kube-apiserver, 5]", "APIServer\nunknown(an integer stands where a string is expected)"},
		{"no list of arguments", "command: [kube-apiserver]\n    args: --profiling", "APIServer\nunknown(a string stands where a list is expected)"},
		{"a byte that cannot be", `command: [kube-apiserver, "--audit-log-path=a\0b"]`, "APIServer\naudit-log-path=unknown(it holds a byte that no argument can hold) @command[1]"},

		{"shell", `command: [/bin/sh, -c, "exec /usr/local/bin/kube-apiserver --profiling=false 1>>/var/log/a.log 2>&1"]`, "APIServer\nprofiling=false @command[2]"},
		{"shell, in args", "command: [sh, -ec]\n    args: ['kube-apiserver --profiling=\"false\" --audit-log-path=''/var/log/a b'' --v=2 # --v=3']", "APIServer\nprofiling=false @args[0]\naudit-log-path=/var/log/a b @args[0]\nv=2 @args[0]"},
		{"shell, several lines", "command: [bash, -o, errexit, -c]\n    args:\n    - |\n      set -x\n      until nc -z etcd 2379; do sleep 1; done\n      if true; then\n        A=b exec kube-apiserver \\\n          --profiling=false \\\n          --token-auth-file=\n      fi\n",
			"APIServer\nprofiling=false @args[0]\ntoken-auth-file= @args[0]"},
		{"shell, pipes", `command: [sh, -c, "mkfifo /tmp/pipe; (tee -a /var/log/a < /tmp/pipe & ) ; kube-scheduler --profiling=false > /tmp/pipe 2>&1"]`, "Scheduler\nprofiling=false @command[2]"},
		{"shell, named in other commands", `command: [sh, -c, "echo kube-apiserver --profiling; cat <<EOF\nkube-apiserver --profiling\nEOF\npgrep kube-apiserver"]`, ""},
		{"shell, indented here-document", "command: [sh, -c, \"cat <<-'EOF' <<< x > f\\n\\tkube-apiserver\\n\\tEOF\\netcd --auto-tls\"]", "Etcd\nauto-tls=true @command[2]"},
		{"shell, here-document without an end", "command: [sh, -c, \"cat <<EOF\\nkube-apiserver\"]", ""},
		{"shell, variables", "command: [sh, -c, 'kube-apiserver --profiling=$P --audit-log-path=\"$LOG\" $MANY']\n    env: [{name: P, value: 'false'}, {name: LOG, value: a b}, {name: MANY, value: --v=1 --allow-privileged}]",
			"APIServer\nprofiling=false @command[2]\naudit-log-path=a b @command[2]\nv=1 @command[2]\nallow-privileged=true @command[2]"},
		{"shell, works it out", "command: [sh, -c, 'kube-apiserver --advertise-address=$(hostname -i) --audit-log-path=`date` --client-ca-file=${A:-b} --token-auth-file=$1 --v=\"$((1+1))\" --profiling=$B']",
			"APIServer\nadvertise-address=unknown(the shell works it out) @command[2]\naudit-log-path=unknown(the shell works it out) @command[2]\nclient-ca-file=unknown(the shell works it out) @command[2]\n" +
				"token-auth-file=unknown(the shell works it out) @command[2]\nv=unknown(the shell works it out) @command[2]\nprofiling=unknown(the variable B is not set here) @command[2]"},
		{"shell, sets it itself", "command: [sh, -c, 'P=true; kube-apiserver --profiling=$P']\n    env: [{name: P, value: 'false'}]", "APIServer\nprofiling=unknown(the script sets the variable P) @command[2]"},
		{"shell, any flag", `command: [sh, -c, "kube-apiserver --profiling=false $FLAGS"]`, "APIServer\nunknown(the variable FLAGS is not set here)"},
		{"shell, variables of Kubernetes", "command: [sh, -c, 'kube-apiserver --profiling=$(P)']\n    env: [{name: P, value: 'false'}]", "APIServer\nprofiling=false @command[2]"},
		{"shell, sets variables of etcd", `command: [sh, -c, "ETCD_AUTO_TLS=true exec etcd --cert-file=a"]`, "Etcd\ncert-file=a @command[2]\nauto-tls=true @command[2]"},
		{"shell, quotes that are not closed", `command: [sh, -c, "kube-apiserver --audit-log-path='a"]`, "APIServer\naudit-log-path=unknown(a quote is not closed) @command[2]"},
		{"shell, double quotes that are not closed", `command: [sh, -c, 'kube-apiserver --audit-log-path="a']`, "APIServer\naudit-log-path=unknown(a quote is not closed) @command[2]"},
		{"shell, escapes", `command: [sh, -c, 'kube-apiserver --audit-log-path=a\ b\$c"\$d\e"$']`, `APIServer` + "\n" + `audit-log-path=a b$c$d\e$ @command[2]`},
		{"shell, a pipe for a file", `command: [sh, -c, "etcd --cert-file <(cat a (b)) --auto-tls"]`, "Etcd\ncert-file=unknown(the shell works it out) @command[2]\nauto-tls=true @command[2]"},
		{"shell, both outputs", `command: [sh, -c, "etcd &> /dev/null --auto-tls"]`, "Etcd\nauto-tls=true @command[2]"},
		{"shell in a shell", `command: [sh, -c, "sh -c 'etcd --auto-tls'"]`, "Etcd\nauto-tls=true @command[2]"},
		{"shell, a hash in a word", `command: [sh, -c, "etcd --name=a#b --auto-tls"]`, "Etcd\nname=a#b @command[2]\nauto-tls=true @command[2]"},
		{"shell, a backslash at the end", `command: [sh, -c, 'etcd --name=a\']`, "Etcd\nname=a\\ @command[2]"},
		{"shell, parentheses that are not closed", `command: [sh, -c, 'etcd --name=$((1']`, "Etcd\nname=unknown(the shell works it out) @command[2]"},
		{"shell, braces that are not closed", `command: [sh, -c, 'etcd --name=${A']`, "Etcd\nname=unknown(the variable A is not set here) @command[2]"},
		{"shell, a variable from elsewhere", "command: [sh, -c, 'etcd --name=$A']\n    env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]", "Etcd\nname=unknown(the variable A is read from somewhere else) @command[2]"},
		{"shell, case and function", `command: [sh, -c, "run() { exec etcd --auto-tls; }; case $1 in start) run;; esac"]`, "Etcd\nauto-tls=true @command[2]"},
		{"shell without a script", `command: [sh, -c]`, ""},
		{"hyperkube with something else", `command: [hyperkube, kubelet, --v=2]`, ""},
		{"a wrapper of nothing", "command: [nice, -n, '5', /usr/bin/env]\n    image: etcd", ""},
		{"shell with a file", `command: [sh, /etcd.sh]`, ""},
		{"busybox", `command: [busybox, sh, -c, "etcd --auto-tls"]`, "Etcd\nauto-tls=true @command[3]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, o := range derived(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: c\n    "+c.container, 36) {
				got = append(got, o.Kind+"\n"+explicit(o))
			}
			if s := strings.Join(got, "\n"); s != c.want {
				t.Errorf("got\n%s\nwant\n%s", s, c.want)
			}
		})
	}
}

// effective returns flags of a fact.
func effective(o *object.Object, names ...string) string {
	var out []string
	for _, name := range names {
		out = append(out, name+"="+shown(o.Root.At("facts", "flags", name)))
	}
	return strings.Join(out, " ")
}

func pod(container string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  hostNetwork: true\n  containers:\n  - name: c\n    " + container
}

// TestDefaults holds what is said of flags that are not set.
func TestDefaults(t *testing.T) {
	for _, c := range []struct {
		container string
		minor     int
		flags     string
		want      string
	}{
		{"command: [kube-apiserver]", 30, "enable-logs-handler audit-log-maxage authorization-mode token-auth-file profiling request-timeout",
			"enable-logs-handler=true audit-log-maxage=0 authorization-mode=[AlwaysAllow] token-auth-file=- profiling=true request-timeout=1m0s"},
		{"command: [kube-apiserver]", 31, "enable-logs-handler audit-log-maxage", "enable-logs-handler=false audit-log-maxage=0"},
		{"command: [kube-apiserver]", 36, "audit-log-maxage audit-log-maxbackup audit-log-maxsize", "audit-log-maxage=366 audit-log-maxbackup=100 audit-log-maxsize=100"},
		{"command: [kube-apiserver]\n    image: registry.k8s.io/kube-apiserver:v1.29.3", 37, "enable-logs-handler", "enable-logs-handler=true"},
		{"command: [kube-apiserver]\n    image: example.com:5000/kube-apiserver", 37, "enable-logs-handler", "enable-logs-handler=false"},
		{"command: [etcd]\n    image: registry.k8s.io/etcd:3.5.1", 37, "client-cert-auth listen-client-urls", "client-cert-auth=false listen-client-urls=[http://localhost:2379]"},
		{"command: [kube-scheduler]", 24, "authentication-tolerate-lookup-failure bind-address", "authentication-tolerate-lookup-failure=true bind-address=0.0.0.0"},
		{"command: [kube-controller-manager]", 24, "terminated-pod-gc-threshold authorization-always-allow-paths", "terminated-pod-gc-threshold=12500 authorization-always-allow-paths=[/healthz /readyz /livez]"},
		// What files decide.
		{"command: [kube-apiserver, --authentication-config=a]", 36, "anonymous-auth profiling", "anonymous-auth=unknown(the file that --authentication-config names takes the place of flags) profiling=true"},
		{"command: [kube-apiserver, --authentication-config=a, --anonymous-auth=false]", 36, "anonymous-auth", "anonymous-auth=false"},
		{"command: [kube-apiserver, --authentication-config=]", 36, "anonymous-auth", "anonymous-auth=true"},
		{"command: [kube-apiserver, --authorization-config=a]", 36, "authorization-mode anonymous-auth", "authorization-mode=unknown(the file that --authorization-config names takes the place of flags) anonymous-auth=true"},
		{"command: [kube-apiserver, --authorization-config=$(A)]", 36, "authorization-mode", "authorization-mode=unknown(the file that --authorization-config names takes the place of flags)"},
		{"command: [kube-apiserver, --authorization-mode=]", 36, "authorization-mode", "authorization-mode=[AlwaysAllow]"},
		{"command: [kube-apiserver, --openshift-config=a, --profiling=false]", 36, "profiling anonymous-auth", "profiling=false anonymous-auth=unknown(the file that --openshift-config names takes the place of flags)"},
		{"command: [kube-scheduler, --config=a, --profiling=false]", 36, "profiling bind-address", "profiling=unknown(the file that --config names takes the place of flags) bind-address=0.0.0.0"},
		{"command: [etcd, --config-file=a, --auto-tls=false]", 36, "auto-tls cert-file config-file", "auto-tls=unknown(the file that --config-file names takes the place of flags) cert-file=unknown(the file that --config-file names takes the place of flags) config-file=a"},
		{"command: [etcd, --auto-tls=false]\n    envFrom: [{secretRef: {name: a}}]", 36, "auto-tls cert-file", "auto-tls=false cert-file=unknown(envFrom may set it)"},
		{"command: [etcd, --auto-tls=false]\n    env: [{value: a}, {name: ETCD_CERT_FILE, value: 5}]", 36, "cert-file", "cert-file=unknown(the variable ETCD_CERT_FILE is an integer, not a string)"},
		{"command: [etcd, --auto-tls=false]\n    env: {a: b}", 36, "auto-tls cert-file", "auto-tls=false cert-file=unknown(env is a map, not a list)"},
	} {
		all := derived(t, pod(c.container), c.minor)
		if len(all) != 1 {
			t.Errorf("%s: %d facts", c.container, len(all))
			continue
		}
		if got := effective(all[0], strings.Fields(c.flags)...); got != c.want {
			t.Errorf("%s in 1.%d:\n got %s\nwant %s", c.container, c.minor, got, c.want)
		}
	}
}

// TestAdmission holds which plugins are said to be enabled.
func TestAdmission(t *testing.T) {
	for _, c := range []struct {
		flags         string
		minor         int
		with, without []string
		disabled      string
	}{
		{"", 24, []string{"PodSecurity", "ServiceAccount"}, []string{"NodeRestriction", "ValidatingAdmissionPolicy"}, "[]"},
		{"", 26, []string{"ValidatingAdmissionPolicy"}, []string{"MutatingAdmissionPolicy", "ClusterTrustBundleAttest"}, "[]"},
		{"", 36, []string{"MutatingAdmissionPolicy", "JobValidation"}, []string{"AlwaysPullImages"}, "[]"},
		{"", 37, []string{"PodGroupProtection"}, []string{"JobValidation"}, "[]"},
		{"'--enable-admission-plugins=NodeRestriction,ServiceAccount', '--disable-admission-plugins=PodSecurity,EventRateLimit'", 36, []string{"NodeRestriction", "ServiceAccount"}, []string{"PodSecurity"}, "[PodSecurity]"},
		{"'--admission-control=ServiceAccount,NodeRestriction'", 30, []string{"NodeRestriction", "ServiceAccount"}, []string{"PodSecurity", "LimitRanger"}, ""},
	} {
		f := derived(t, pod("command: [kube-apiserver, "+c.flags+"]"), c.minor)[0].Root.Get("facts")
		var enabled []string
		for _, item := range f.At("admission", "enabled").Items {
			enabled = append(enabled, item.Text)
		}
		for _, p := range c.with {
			if !slices.Contains(enabled, p) {
				t.Errorf("%q in 1.%d: %s is not enabled", c.flags, c.minor, p)
			}
		}
		for _, p := range c.without {
			if slices.Contains(enabled, p) {
				t.Errorf("%q in 1.%d: %s is enabled", c.flags, c.minor, p)
			}
		}
		if got := shown(f.At("admission", "disabled")); c.disabled != "" && got != c.disabled {
			t.Errorf("%q in 1.%d: %s are disabled, want %s", c.flags, c.minor, got, c.disabled)
		}
		if count := len(enabled); count != len(slices.Compact(slices.Sorted(slices.Values(enabled)))) {
			t.Errorf("%q: a plugin is named twice", c.flags)
		}
	}
}

// TestAdmissionUnknown holds what is said where the flags are not known.
func TestAdmissionUnknown(t *testing.T) {
	admission := func(flags string) *object.Node {
		return derived(t, pod("command: [kube-apiserver, "+flags+"]"), 36)[0].Root.At("facts", "admission")
	}
	more := admission("--enable-admission-plugins=$(MORE)").Get("enabled")
	if last := more.Items[len(more.Items)-1]; last.Kind != object.Unknown || more.Items[0].Text != "CertificateApproval" {
		t.Errorf("plugins that are enabled besides: %s", shown(more))
	}
	if off := admission("--enable-admission-plugins=$(MORE), --disable-admission-plugins=PodSecurity").Get("disabled"); shown(off) != "[PodSecurity]" {
		t.Errorf("plugins that are disabled beside: %s", shown(off))
	}
	if off := admission("--disable-admission-plugins=$(LESS)"); off.Get("enabled").Kind != object.Unknown || off.Get("disabled").Kind != object.Unknown {
		t.Errorf("plugins that are disabled: %s", shown(off))
	}
	if hole := admission("$(ANY)"); hole.Kind != object.Unknown {
		t.Errorf("any flags: %s", shown(hole))
	}
}

// TestWhere holds in which objects components are found, and where a flag that
// is missing is shown.
func TestWhere(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: hosted, namespace: tenant}\nspec: {template: {spec: {initContainers: [{name: wait, command: [sh, -c, sleep 1]}], containers: [{name: api, command: [kube-apiserver], args: [--profiling=false]}]}}}",
			"APIServer tenant/hosted false spec.template.spec.containers[api].args"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true, containers: [{name: etcd, command: [etcd]}, {name: etcd2, command: [sh, -c, etcd]}]}",
			"Etcd a true spec.containers[etcd].command\nEtcd a true spec.containers[etcd2].command[2]"},
		{"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: web, image: nginx}]}}}", ""},
		{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {a: kube-apiserver}", ""},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: empty}", ""},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: odd}\nspec: {containers: {name: etcd}, initContainers: [etcd, null, {command: etcd}]}", ""},
		{"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nscheduler: {extraArgs: []}",
			"APIServer  true \nControllerManager  true \nScheduler  true scheduler\nEtcd  true "},
	} {
		var got []string
		for _, o := range derived(t, c.text, 36) {
			name := o.Name
			if o.Namespace != "" {
				name = o.Namespace + "/" + name
			}
			got = append(got, fmt.Sprintf("%s %s %s %s", o.Kind, name, shown(o.Root.At("facts", "hostNetwork")), o.SourcePath(object.Path(nil).Fields("facts", "flags", "cert-file"))))
		}
		if s := strings.Join(got, "\n"); s != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.text, s, c.want)
		}
	}
}

// TestKubeadmArguments says what is read from kubeadm's configuration.
func TestKubeadmArguments(t *testing.T) {
	const api, etcd = "APIServer", "Etcd"
	for _, c := range []struct{ name, text, kind, flags, want string }{
		{"a map", "apiServer: {extraArgs: {profiling: 'false', authorization_mode: RBAC, audit-log-path: null}}", api, "profiling authorization-mode audit-log-path client-ca-file",
			"profiling=false @apiServer.extraArgs.profiling authorization-mode=[RBAC] @apiServer.extraArgs.authorization_mode audit-log-path=- client-ca-file=/etc/kubernetes/pki/ca.crt @apiServer"},
		{"a list", "certificatesDir: /pki\napiServer: {extraArgs: [{name: profiling, value: 'true'}, {name: profiling, value: 'false'}, {value: a}, {name: token-auth-file}]}", api, "profiling token-auth-file client-ca-file",
			"profiling=false @apiServer.extraArgs[1] token-auth-file= @apiServer.extraArgs[token-auth-file] client-ca-file=/pki/ca.crt @apiServer"},
		{"sorted before 1.36", "kubernetesVersion: v1.35.0\napiServer: {extraArgs: [{name: profiling, value: 'true'}, {name: profiling, value: 'false'}]}", api, "profiling", "profiling=true @apiServer.extraArgs[0]"},
		{"lists add up", "apiServer: {extraArgs: [{name: enable-admission-plugins, value: A}, {name: enable-admission-plugins, value: B}]}", api, "enable-admission-plugins", "enable-admission-plugins=[A B] @apiServer.extraArgs[1]"},
		{"appended", "apiServer: {extraArgs: [{name: enable-admission-plugins, value: ',A', mergeMethod: append}]}", api, "enable-admission-plugins", "enable-admission-plugins=[NodeRestriction A] @apiServer.extraArgs[enable-admission-plugins]"},
		{"prepended", "apiServer: {extraArgs: [{name: enable-admission-plugins, value: 'A,', mergeMethod: prepend}]}", api, "enable-admission-plugins", "enable-admission-plugins=[A NodeRestriction] @apiServer.extraArgs[enable-admission-plugins]"},
		{"appended to what is not known", "apiServer: {extraArgs: [{name: service-account-issuer, value: x, mergeMethod: append}]}", api, "service-account-issuer", "service-account-issuer=unknown(kubeadm works it out on the node) @apiServer.extraArgs[service-account-issuer]"},
		{"a file of authorizers", "apiServer: {extraArgs: [{name: authorization-config, value: /a}]}", api, "authorization-mode", "authorization-mode=unknown(the file that --authorization-config names takes the place of flags)"},
		{"worked out on the node", "", api, "advertise-address", "advertise-address=unknown(kubeadm works it out on the node) @"},
		{"no string", "apiServer: {extraArgs: {profiling: false}}", api, "profiling", "profiling=unknown(a boolean stands where a string is expected) @apiServer.extraArgs.profiling"},
		{"a template", "apiServer: {extraArgs: {profiling: '${PROFILING}'}}", api, "profiling", "profiling=unknown(a template is to fill it in) @apiServer.extraArgs.profiling"},
		{"neither list nor map", "apiServer: {extraArgs: none}", api, "profiling", "profiling=-"},
		{"etcd elsewhere", "etcd: {external: {endpoints: [https://a, https://b], caFile: /ca}}", api, "etcd-servers etcd-cafile etcd-certfile",
			"etcd-servers=[https://a https://b] @etcd.external.endpoints etcd-cafile=/ca @etcd.external.caFile etcd-certfile=-"},
		{"etcd elsewhere, a template", "etcd: {external: {endpoints: ['${ETCD}']}}", api, "etcd-servers", "etcd-servers=unknown(a template is to fill it in) @etcd.external.endpoints"},
		{"etcd advertises", "etcd: {local: {extraArgs: {advertise-client-urls: 'http://a:2379'}}}", api, "etcd-servers", "etcd-servers=[http://a:2379] @etcd.local.extraArgs.advertise-client-urls"},
		{"etcd by variables", "etcd: {local: {extraEnvs: [{name: ETCD_CERT_FILE, value: a}, {name: ETCD_CIPHER_SUITES, value: b}]}}", etcd, "cert-file cipher-suites",
			"cert-file=/etc/kubernetes/pki/etcd/server.crt @etcd.local cipher-suites=[b] @etcd.local.extraEnvs[ETCD_CIPHER_SUITES]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, o := range derived(t, "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n"+c.text, 36) {
				if o.Kind != c.kind {
					continue
				}
				for _, name := range strings.Fields(c.flags) {
					value := o.Root.At("facts", "flags", name)
					one := name + "=" + shown(value)
					if set := o.Root.At("facts", "explicit"); set.Kind == object.List && slices.ContainsFunc(set.Items, func(n *object.Node) bool { return n.Text == name }) {
						one += " @" + o.SourcePath(root.Fields("flags", name)).String()
					}
					got = append(got, one)
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got\n%s\nwant\n%s", s, c.want)
			}
		})
	}
}

// TestUnknown holds that what a source could not read is unknown here, too.
func TestUnknown(t *testing.T) {
	type m = map[string]any
	not := struct{}{} // becomes an unknown value
	made := func(apiVersion, kind string, rest m) *object.Object {
		rest["apiVersion"], rest["kind"] = apiVersion, kind
		o, err := object.FromNode(object.FromAny(rest), &object.Origin{Source: "test"})
		if err != nil {
			t.Fatal(err)
		}
		return o[0]
	}
	container := func(c m) *object.Object {
		return made("v1", "Pod", m{"spec": m{"containers": []any{c}}})
	}
	configuration := func(rest m) *object.Object { return made("kubeadm.k8s.io/v1beta4", "ClusterConfiguration", rest) }
	for _, c := range []struct {
		name, flag string
		o          *object.Object
	}{
		{"a word", "cert-file", container(m{"command": []any{"etcd", not}})},
		{"args", "cert-file", container(m{"command": []any{"etcd"}, "args": not})},
		{"a variable", "cert-file", container(m{"command": []any{"etcd"}, "env": []any{m{"name": "ETCD_CERT_FILE", "value": not}}})},
		{"one of the variables", "cert-file", container(m{"command": []any{"etcd"}, "env": []any{not}})},
		{"all variables", "cert-file", container(m{"command": []any{"etcd"}, "env": not})},
		{"envFrom", "cert-file", container(m{"command": []any{"etcd"}, "envFrom": not})},
		{"variables in an argument", "cert-file", container(m{"command": []any{"etcd", "--cert-file=$(A)"}, "envFrom": []any{m{}}})},
		{"an argument of kubeadm", "profiling", configuration(m{"apiServer": m{"extraArgs": m{"profiling": not}}})},
		{"one of the arguments of kubeadm", "profiling", configuration(m{"apiServer": m{"extraArgs": []any{not}}})},
		{"all arguments of kubeadm", "profiling", configuration(m{"apiServer": m{"extraArgs": not}})},
		{"etcd elsewhere", "etcd-servers", configuration(m{"etcd": m{"external": m{"endpoints": []any{not}}}})},
		{"a configuration of kubeadm", "profiling", made("bootstrap.cluster.x-k8s.io/v1beta1", "KubeadmConfig", m{"spec": m{"clusterConfiguration": not}})},
	} {
		all := derive(c.o, &facts.Env{Minor: 36})
		if len(all) == 0 {
			t.Errorf("%s: no facts", c.name)
			continue
		}
		if flags := all[0].Root.At("facts", "flags"); flags.Kind != object.Unknown && flags.Get(c.flag).Str() != "" || !flags.HasUnknown() {
			t.Errorf("%s: --%s is %s", c.name, c.flag, shown(flags.Get(c.flag)))
		}
	}
	hidden := container(m{"command": not, "image": "etcd"})
	if all := derive(hidden, &facts.Env{Minor: 36}); len(all) != 0 {
		t.Errorf("a command that is not known is taken for %s", all[0].Kind)
	}
}

// TestTables holds that every line of the tables can be read.
func TestTables(t *testing.T) {
	for name, c := range components() {
		if len(c.flags) < 50 || len(c.byName) != len(c.flags) {
			t.Errorf("%s has %d flags of %d names", name, len(c.flags), len(c.byName))
		}
		for _, f := range c.flags {
			if !slices.Contains([]flagKind{text, boolean, integer, duration, list, each, mapping, gates}, f.kind) {
				t.Errorf("%s: --%s has the type %q", name, f.name, f.kind)
			}
			if strings.Contains(f.name, "_") {
				t.Errorf("%s: --%s has an underscore", name, f.name)
			}
			for i, d := range f.defaults {
				if d.value == nil || d.value.Kind == object.Unknown || i > 0 && d.minor >= f.defaults[i-1].minor {
					t.Errorf("%s: the defaults of --%s cannot be right", name, f.name)
				}
			}
		}
		for _, shorthand := range shorthands {
			if c.flag(shorthand) == nil && !c.goFlags {
				t.Errorf("%s has no flag %s", name, shorthand)
			}
		}
	}
	for _, line := range plugins() {
		if len(line) < 2 || minorOf(line[1]) < 24 {
			t.Errorf("admission plugins: %v", line)
		}
	}
}
