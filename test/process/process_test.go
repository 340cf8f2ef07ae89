// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// parentEnv has the test binary be a program that starts another, says its
// number and hangs.
const parentEnv = "SCONCE_TEST_PARENT"

func TestMain(m *testing.M) {
	if log := os.Getenv(parentEnv); log != "" {
		child := &Process{Path: "/bin/sleep", Args: []string{"600"}, Log: log}
		if err := child.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(child.PID())
		select {}
	}
	os.Exit(m.Run())
}

func shell(t *testing.T, script string) *Process {
	t.Helper()
	p := &Process{Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(p.Kill)
	return p
}

// await polls until something holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestStop(t *testing.T) {
	p := shell(t, `trap 'echo asked; exit 7' TERM; echo up; while :; do sleep 0.01; done`)
	for range 2 { // it can be started again
		if err := os.RemoveAll(p.Log); err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err == nil {
			t.Error("started what runs already")
		}
		await(t, "the program", func() bool { return strings.Contains(string(p.Tail()), "up") })
		if code, err := p.Stop(); code != 7 || err != nil {
			t.Errorf("got exit code %d, %v; want 7", code, err)
		}
		if p.Runs() || !strings.Contains(string(p.Tail()), "asked") {
			t.Errorf("it runs: %t; it logged %q", p.Runs(), p.Tail())
		}
	}
}

func TestEnded(t *testing.T) {
	p := shell(t, `echo what went wrong >&2; exit 1`)
	if err := p.Ended(); err != nil {
		t.Errorf("before it was started: %v", err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "its end", func() bool { return p.Ended() != nil })
	if err := p.Ended(); !strings.Contains(err.Error(), "what went wrong") {
		t.Errorf("got %v, want what it logged", err)
	}
	p = shell(t, `echo listen tcp: address already in use`)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "its end", func() bool { return p.Ended() != nil })
	if err := p.Ended(); !errors.Is(err, ErrPortTaken) {
		t.Errorf("got %v, want that a port was taken", err)
	}
}

func TestPause(t *testing.T) {
	p := shell(t, `while :; do echo tick; done`)
	if err := p.Pause(); err == nil {
		t.Error("paused what does not run")
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		info, err := os.Stat(p.Log)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	await(t, "output", func() bool { return size() > 0 })
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	before := size()
	time.Sleep(20 * time.Millisecond) // in which it would have written much
	if after := size(); after != before {
		t.Errorf("it wrote %d bytes while paused", after-before)
	}
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
	await(t, "more output", func() bool { return size() > before })
}

// TestNoOrphans kills a test as one that hangs is killed, and looks for what it
// had started.
func TestNoOrphans(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends children with their parent")
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentEnv+"="+filepath.Join(t.TempDir(), "log"))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	t.Cleanup(func() { _ = syscall.Kill(child, syscall.SIGKILL) })
	await(t, "the end of the child", func() bool { return gone(child) })
}

// gone says whether a process has ended, be it that nobody has waited for it.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestFreePorts(t *testing.T) {
	ports, err := FreePorts(50)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ports)
	if distinct := slices.Compact(slices.Clone(ports)); len(distinct) != 50 {
		t.Errorf("got %d distinct ports, want 50", len(distinct))
	}
}
