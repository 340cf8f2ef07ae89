// SPDX-License-Identifier: Apache-2.0

// Package render runs package helm and package kustomize in processes of their
// own. A chart is a program that strangers wrote: it may loop for ever, or take
// all memory there is. Such a process is ended, and that one chart is an error;
// the scan goes on.
//
// The processes are the same executable, started with WorkerArg as its first
// argument; main must then call Worker and nothing else. They keep Sconce safe
// from runaway templates; they are no sandbox, and need none: Helm's templates
// cannot reach files, commands or the network.
package render

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"sconce.dev/sconce/source/helm"
	"sconce.dev/sconce/source/kustomize"
)

// WorkerArg is the first argument of a worker process. It is in no usage text.
const WorkerArg = "__render"

// maxFrame is the longest message between processes, in bytes.
const maxFrame = 1 << 30

// request asks a worker for one chart or overlay.
type request struct {
	Dir string
	// Helm or Kustomize is set.
	Helm      *helm.Options
	Kustomize *kustomize.Options
	MemoryMiB int
}

// answer is what came of it: one field is set.
type answer struct {
	Chart          *helm.Rendered
	Overlay        *kustomize.Rendered
	HelmError      *helm.Error
	KustomizeError *kustomize.Error
	// Failed is an error of another type; GaveUp that the worker ends.
	Failed string
	GaveUp bool
}

// Worker reads requests, renders, and writes answers until the input ends. When
// it ends in the middle of a request, whoever asked is gone, and the process
// exits at once.
func Worker(in io.Reader, out io.Writer) error {
	silence(out)
	w := &worker{out: out}
	requests := make(chan *request)
	broken := make(chan error, 1)
	go w.read(in, requests, broken)
	for r := range requests {
		w.begin(r)
		a := w.serve(r)
		if err := w.end(a); err != nil {
			return err
		}
	}
	return <-broken
}

// silence keeps what libraries print away from the answers and from the user.
func silence(out io.Writer) {
	if out == io.Writer(os.Stdout) {
		os.Stdout = os.Stderr
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	log.SetOutput(io.Discard)
	http.DefaultTransport = refuse{}
}

// refuse is the network of a worker: there is none.
type refuse struct{}

// RoundTrip refuses every request.
func (refuse) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("%s: Sconce fetches nothing", r.URL.Host)
}

// worker is the state of a worker process.
type worker struct {
	out io.Writer
	// mu guards what follows and the writing of answers.
	mu sync.Mutex
	// pending are the requests that were read and not yet answered.
	pending int
}

// read hands requests over. It keeps reading while one is served, to see the
// end of the input.
func (w *worker) read(in io.Reader, requests chan<- *request, broken chan<- error) {
	defer close(requests)
	for {
		var r request
		if err := readFrame(in, &r); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			w.mu.Lock()
			if w.pending > 0 {
				endGroup()
				os.Exit(1) //nolint:gocritic // nobody is left to read the requests
			}
			w.mu.Unlock()
			broken <- err
			return
		}
		// Counted before it is handed over: the end of the input may be read
		// before anybody begins to serve it.
		w.mu.Lock()
		w.pending++
		w.mu.Unlock()
		requests <- &r
	}
}

// begin starts to watch the memory for a request.
func (w *worker) begin(r *request) {
	watch(r.MemoryMiB, func() {
		w.mu.Lock() // for good: no other answer may follow
		_ = writeFrame(w.out, &answer{Failed: tooMuch(r.MemoryMiB), GaveUp: true})
		endGroup()
		os.Exit(1)
	})
}

// end writes the answer.
func (w *worker) end(a *answer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending--
	unwatch()
	return writeFrame(w.out, a)
}

// serve renders.
func (w *worker) serve(r *request) *answer {
	a := &answer{}
	var err error
	switch {
	case r.Helm != nil:
		a.Chart, err = helm.Render(r.Dir, *r.Helm)
	case r.Kustomize != nil:
		a.Overlay, err = buildOverlay(r)
	default:
		err = errors.New("neither a chart nor an overlay was asked for")
	}
	switch {
	case err == nil:
	case errors.As(err, &a.HelmError):
	case errors.As(err, &a.KustomizeError):
	default:
		a.Failed = err.Error()
	}
	return a
}

// buildOverlay builds an overlay, with this program in the place of Helm's.
func buildOverlay(r *request) (*kustomize.Rendered, error) {
	opts := *r.Kustomize
	if opts.EnableHelm && opts.HelmCommand == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		opts.HelmCommand = exe
		for name, value := range map[string]string{ShimEnv: "1", memoryEnv: fmt.Sprint(r.MemoryMiB), rootEnv: opts.Root} {
			if err := os.Setenv(name, value); err != nil {
				return nil, err
			}
			defer func() { _ = os.Unsetenv(name) }() // fails for no name that could be set
		}
	}
	return kustomize.Build(r.Dir, opts)
}

// writeFrame writes a message with its length before it.
func writeFrame(w io.Writer, v any) error {
	var b bytes.Buffer
	b.Write(make([]byte, 4))
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		return err
	}
	if b.Len() > maxFrame {
		return fmt.Errorf("message of %d MiB", b.Len()>>20)
	}
	binary.BigEndian.PutUint32(b.Bytes(), uint32(b.Len()-4))
	_, err := w.Write(b.Bytes())
	return err
}

// readFrame reads a message. It returns io.EOF where none begins.
func readFrame(r io.Reader, v any) error {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFrame {
		return fmt.Errorf("message of %d MiB", n>>20)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		return io.ErrUnexpectedEOF
	}
	return gob.NewDecoder(&b).Decode(v)
}

// watching stops the last watch.
var (
	watchMu  sync.Mutex
	watching chan struct{}
)

// watchEvery is how often the memory is looked at. A template can take about
// 1 GiB in the time of ten looks.
const watchEvery = 10 * time.Millisecond

// watch calls over, once, when the process uses more memory than the limit. It
// is for processes that do nothing but render.
func watch(limitMiB int, over func()) {
	unwatch()
	limit := int64(limitMiB) << 20
	if limit <= 0 {
		return
	}
	limitData(limitMiB)
	debug.SetMemoryLimit(limit - limit/10)
	stop := make(chan struct{})
	watchMu.Lock()
	watching = stop
	watchMu.Unlock()
	go func() {
		ticker := time.NewTicker(watchEvery)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				if used() > limit {
					over()
					return
				}
			}
		}
	}()
}

// unwatch ends the watch.
func unwatch() {
	watchMu.Lock()
	defer watchMu.Unlock()
	if watching != nil {
		close(watching)
		watching = nil
	}
}

func tooMuch(limitMiB int) string {
	return fmt.Sprintf("gave up: it needs more than %d MiB of memory", limitMiB)
}
