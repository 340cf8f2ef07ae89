// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDebounce: changes that follow one another are told together.
func TestDebounce(t *testing.T) {
	changes, over := make(chan string), make(chan time.Time)
	var told [][]string
	done := make(chan struct{})
	go func() {
		defer close(done)
		debounce(t.Context(), changes, func() <-chan time.Time { return over }, func(names []string) { told = append(told, names) })
	}()
	for _, name := range []string{"b", "a", "b"} {
		changes <- name
	}
	over <- time.Time{}
	changes <- "c"
	over <- time.Time{}
	close(changes)
	<-done
	if len(told) != 2 || !slices.Equal(told[0], []string{"a", "b"}) || !slices.Equal(told[1], []string{"c"}) {
		t.Errorf("told %v, want [[a b] [c]]", told)
	}
}

// TestWatch: a change is noticed, and what it touches is run again.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("x.rego", "package x\n\nallow if input.a\n")
	write("x_test.rego", "package x\n\ntest_allow if allow with input as {\"a\": true}\n")
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		f := &testFlags{format: "table"}
		if err := f.check(); err != nil {
			ended <- err
			return
		}
		ended <- watchTests(ctx, Streams{Out: w, Err: io.Discard}, f, []string{dir})
		_ = w.Close()
	}()
	lines := bufio.NewScanner(r)
	until := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("no line has %q: %v", want, lines.Err())
	}
	until("1 case in 1 file: 1 passed")
	until("waiting for changes")
	write("x.rego", "package x\n\nallow if input.b\n")
	until("changed: ")
	until("1 case in 1 file: 1 failed")
	until("waiting for changes")
	write("y_test.rego", "package y\n\ntest_y if true\n")
	until("2 cases in 2 files: 1 passed, 1 failed")
	cancel()
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
