// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"sconce.dev/sconce/source/helm"
	"sconce.dev/sconce/source/kustomize"
)

// The defaults of Limits.
const (
	DefaultTimeout   = 30 * time.Second
	DefaultMemoryMiB = 1024
)

// Limits are what one chart or overlay may cost.
type Limits struct {
	// Timeout is how long one may take; MemoryMiB how much memory, in MiB. Zero
	// stands for the default.
	Timeout   time.Duration
	MemoryMiB int
}

// Pool is a number of worker processes. They start when they are needed, serve
// one request after the other, and are replaced where one had to be ended. It
// is safe for concurrent use.
type Pool struct {
	exe    string
	args   []string
	limits Limits
	// slots holds one token for each process that may run.
	slots chan struct{}
	mu    sync.Mutex
	idle  []*process
	// closed is set by Close.
	closed bool
}

// NewPool returns a pool of at most size processes. An empty exe is the running
// program, no args is WorkerArg.
func NewPool(exe string, args []string, size int, limits Limits) *Pool {
	if len(args) == 0 {
		args = []string{WorkerArg}
	}
	if limits.Timeout <= 0 {
		limits.Timeout = DefaultTimeout
	}
	if limits.MemoryMiB <= 0 {
		limits.MemoryMiB = DefaultMemoryMiB
	}
	return &Pool{exe: exe, args: args, limits: limits, slots: make(chan struct{}, max(size, 1))}
}

// Chart renders a chart as helm.Render does. What is wrong with the chart is a
// *helm.Error.
func (p *Pool) Chart(ctx context.Context, dir string, opts helm.Options) (*helm.Rendered, error) {
	a, err := p.do(ctx, "rendering chart "+dir, "a template does not end", &request{Dir: dir, Helm: &opts})
	if err != nil {
		return nil, err
	}
	if a.Chart == nil {
		return nil, fmt.Errorf("rendering chart %s: the worker answered nothing", dir)
	}
	return a.Chart, nil
}

// Overlay builds an overlay as kustomize.Build does. What is wrong with the
// overlay is a *kustomize.Error. Where Helm is enabled and no command given,
// charts are rendered by this program.
func (p *Pool) Overlay(ctx context.Context, dir string, opts kustomize.Options) (*kustomize.Rendered, error) {
	a, err := p.do(ctx, "building overlay "+dir, "the build does not end", &request{Dir: dir, Kustomize: &opts})
	if err != nil {
		return nil, err
	}
	if a.Overlay == nil {
		return nil, fmt.Errorf("building overlay %s: the worker answered nothing", dir)
	}
	return a.Overlay, nil
}

// Close ends the processes. Requests under way are finished; later ones are
// refused.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, w := range p.idle {
		w.kill()
	}
	p.idle = nil
}

// do has a process answer a request. doing and endless say what it was for.
func (p *Pool) do(ctx context.Context, doing, endless string, r *request) (*answer, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	}
	w, err := p.take()
	if err != nil {
		return nil, fmt.Errorf("%s: starting a process: %w", doing, err)
	}
	r.MemoryMiB = p.limits.MemoryMiB
	a, err := w.ask(ctx, p.limits.Timeout, r)
	if err != nil {
		w.kill()
		if errors.Is(err, errEndless) {
			return nil, fmt.Errorf("%s: gave up after %v: %s", doing, p.limits.Timeout, endless)
		}
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	if a.GaveUp {
		w.kill()
	} else {
		p.put(w)
	}
	switch {
	case a.HelmError != nil:
		return nil, a.HelmError
	case a.KustomizeError != nil:
		return nil, a.KustomizeError
	case a.Failed != "":
		return nil, fmt.Errorf("%s: %s", doing, a.Failed)
	}
	return a, nil
}

// take returns an idle process, or a new one.
func (p *Pool) take() (*process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errors.New("the pool is closed")
	}
	if n := len(p.idle); n > 0 {
		w := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return w, nil
	}
	return start(p.exe, p.args)
}

// put gives a process back.
func (p *Pool) put(w *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		w.kill()
		return
	}
	p.idle = append(p.idle, w)
}

// process is a running worker.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	errors *tail
}

// start starts a worker.
func start(exe string, args []string) (*process, error) {
	if exe == "" {
		var err error
		if exe, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = environment()
	ownGroup(cmd)
	w := &process{cmd: cmd, errors: &tail{}}
	cmd.Stderr = w.errors
	// A worker's own children hold its standard error open when it is ended.
	cmd.WaitDelay = time.Second
	var err error
	if w.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if w.out, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return w, cmd.Start()
}

// environment is what a worker sees of the environment: next to nothing.
// Kustomize would let an overlay read it, and without PATH no git is found.
func environment() []string {
	out := []string{"GOTRACEBACK=single"}
	for _, name := range []string{"TMPDIR", "TMP", "TEMP", "SystemRoot", "GOCOVERDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+value)
		}
	}
	return out
}

// errEndless is why a request was given up.
var errEndless = errors.New("does not end")

// ask sends a request and waits for its answer. After an error the process is
// of no use any more.
func (w *process) ask(ctx context.Context, timeout time.Duration, r *request) (*answer, error) {
	type result struct {
		answer *answer
		err    error
	}
	done := make(chan result, 1)
	go func() {
		a := &answer{}
		err := writeFrame(w.in, r)
		if err == nil {
			err = readFrame(w.out, a)
		}
		done <- result{a, err}
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case d := <-done:
		if d.err != nil {
			return nil, w.autopsy(d.err, r.MemoryMiB)
		}
		return d.answer, nil
	case <-timer.C:
		return nil, errEndless
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// autopsy says why a process died.
func (w *process) autopsy(err error, limitMiB int) error {
	w.kill()
	text := w.errors.String()
	switch {
	case strings.Contains(text, "out of memory"), strings.Contains(text, "cannot allocate memory"):
		return errors.New(tooMuch(limitMiB))
	case strings.Contains(text, "stack exceeds"), strings.Contains(text, "stack overflow"):
		return errors.New("gave up: it nests without end")
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return errors.New("the rendering process crashed: " + strings.TrimSpace(line))
		}
	}
	return fmt.Errorf("the rendering process ended: %w", err)
}

// kill ends the process and waits until it is gone.
func (w *process) kill() {
	if w.cmd.ProcessState != nil {
		return
	}
	_ = w.in.Close()
	killGroup(w.cmd.Process)
	_ = w.cmd.Wait()
}

// tail keeps the beginning of what a process wrote to its standard error; a
// crash says what it is first.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const maxTail = 64 << 10

// Write keeps what there is room for.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := maxTail - t.buf.Len(); room > 0 {
		t.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
