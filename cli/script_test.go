// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the expected output of the transcripts")

// TestMain lets the transcripts run this very program as a command, which also
// starts itself to render charts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sconce": func() {
			os.Exit(Main(os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// TestScripts runs the transcripts of testdata: what a person types and what
// they get. Each says in its first lines what it shows.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"makes": makes,
			"lines": lines,
		},
	})
}

// exits runs a command and wants its exit code: exits 1 sconce scan x.yaml
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if e, ok := err.(interface{ ExitCode() int }); ok {
		code = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got := string(rune('0' + code)); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// makes writes a file that no archive of text can hold: makes KIND FILE
func makes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: makes KIND FILE")
	}
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p%}\nspec: {containers: [{name: c, image: i, securityContext: {privileged: true}}]}\n"
	var data []byte
	switch args[0] {
	case "binary":
		data = []byte("kind: \x00\x01\x02\n")
	case "latin1":
		data = []byte("kind: Pod\nnote: caf\xe9\n")
	case "bom":
		data = []byte("\xef\xbb\xbf" + pod)
	case "crlf":
		data = []byte(strings.ReplaceAll(pod, "\n", "\r\n"))
	case "deep":
		for i := range 200 {
			data = append(data, strings.Repeat(" ", i)+"a:\n"...)
		}
	case "bomb":
		data = []byte("a: &a [x,x,x,x,x,x,x,x,x]\n")
		for c := 'b'; c < 'k'; c++ {
			data = append(data, string(c)+": &"+string(c)+" ["+strings.Repeat("*"+string(c-1)+",", 9)+"]\n"...)
		}
	case "huge":
		var b bytes.Buffer
		for b.Len() < 100<<20 {
			b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: filler}\ndata:\n  a: |\n")
			b.WriteString(strings.Repeat("    "+strings.Repeat("x", 95)+"\n", 10_000))
			b.WriteString("---\n")
		}
		b.WriteString(pod)
		data = b.Bytes()
	case "one-huge-document":
		data = append([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: filler}\ndata:\n  a: |\n"), bytes.Repeat([]byte("    x\n"), 4<<20)...)
	default:
		ts.Fatalf("unknown kind %q", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o644))
}

// lines wants text in the standard output of the last command, once for each
// argument, in this order.
func lines(ts *testscript.TestScript, neg bool, args []string) {
	rest := ts.ReadFile("stdout")
	for _, want := range args {
		_, after, ok := strings.Cut(rest, want)
		if ok == neg {
			ts.Fatalf("%q: found=%v in what is left of the output:\n%s", want, ok, rest)
		}
		if ok {
			rest = after
		}
	}
}
