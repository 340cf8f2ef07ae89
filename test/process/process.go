// SPDX-License-Identifier: Apache-2.0

// Package process runs programs for tests: they log to a file, are stopped,
// killed, paused and started again, and end with the test however that ends.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// stopTimeout is how long a process may take to stop before it is killed.
const stopTimeout = 30 * time.Second

// ErrPortTaken is that another process took a port between its choice and its
// use.
var ErrPortTaken = errors.New("a port was taken by another process")

// Process is one program, which can be started again with the same arguments.
type Process struct {
	Path string
	Args []string
	Env  []string // added to that of the test
	Log  string   // the file that all output is appended to

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{} // closed when the last one has ended
}

// Name is that of the program.
func (p *Process) Name() string { return filepath.Base(p.Path) }

// Start starts the program and does not wait for what it does.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("starting %s: it runs already", p.Name())
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	if err := onLauncher(cmd.Start); err != nil {
		return fmt.Errorf("starting %s: %w", p.Name(), err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited = cmd, exited
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(exited)
	}()
	return nil
}

// Runs says whether the program was started and not stopped since. It may have
// ended by itself.
func (p *Process) Runs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// PID is the number of the process, which must run.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// Ended is an error that says how the program has ended, or nil while it runs
// and before it was started.
func (p *Process) Ended() error {
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	select {
	case <-exited:
	default:
		return nil
	}
	tail := p.Tail()
	if bytes.Contains(tail, []byte("address already in use")) {
		return fmt.Errorf("%s: %w", p.Name(), ErrPortTaken)
	}
	return fmt.Errorf("%s ended; the last that it logged:\n%s", p.Name(), tail)
}

// Stop asks the program to end, and kills it if it does not within half a
// minute, which is an error. It returns the exit code, -1 for one that a signal
// ended.
func (p *Process) Stop() (int, error) { return p.end(syscall.SIGTERM) }

// Kill ends the program at once.
func (p *Process) Kill() { _, _ = p.end(syscall.SIGKILL) }

func (p *Process) end(sig os.Signal) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0, nil
	}
	cmd := p.cmd
	p.cmd = nil
	_ = cmd.Process.Signal(sig) // fails only if it has ended
	select {
	case <-p.exited:
		return cmd.ProcessState.ExitCode(), nil
	case <-time.After(stopTimeout):
		_ = cmd.Process.Kill()
		<-p.exited
		return -1, fmt.Errorf("stopping %s: it did not end within %s and was killed; the last that it logged:\n%s",
			p.Name(), stopTimeout, p.Tail())
	}
}

// Pause has the program do nothing at all, and returns when all of its threads
// stand still.
func (p *Process) Pause() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for pid, began := p.PID(), time.Now(); !stopped(pid); {
		if time.Since(began) > stopTimeout {
			return fmt.Errorf("pausing %s: it still runs after %s", p.Name(), stopTimeout)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// Resume ends Pause.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

// Signal sends a signal to the program, which must run.
func (p *Process) Signal(sig os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("sending %s to %s: it does not run", sig, p.Name())
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("sending %s to %s: %w", sig, p.Name(), err)
	}
	return nil
}

// Tail is the end of the log.
func (p *Process) Tail() []byte {
	const size = 4096
	file, err := os.Open(p.Log)
	if err != nil {
		return []byte(err.Error())
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil && info.Size() > size {
		_, _ = file.Seek(-size, io.SeekEnd)
	}
	text, _ := io.ReadAll(file)
	return text
}

var launcher = sync.OnceValue(func() chan func() {
	work := make(chan func())
	go func() {
		// A child dies with the thread that started it, so this one stays.
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// onLauncher runs a function on the one thread that starts processes.
func onLauncher(f func() error) error {
	err := make(chan error)
	launcher() <- func() { err <- f() }
	return <-err
}

// FreePorts finds ports on loopback below those that the system gives to
// clients: a client that dials a stopped server must not get its port.
func FreePorts(n int) ([]string, error) {
	const first, last = 20000, 32767
	var ports []string
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for tries := 0; len(ports) < n; tries++ {
		port := strconv.Itoa(first + rand.IntN(last-first))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			held, ports = append(held, l), append(ports, port)
		} else if tries > 1000 {
			return nil, fmt.Errorf("finding %d free ports from %d to %d: %w", n, first, last, err)
		}
	}
	return ports, nil
}
