// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// graphvizWasm is Graphviz as WebAssembly; graphviz/README.md says where it
// comes from. Its Go package compiles it whenever a program starts, and reads
// the machine code from a folder that anyone may write to, so it is run here
// instead: compiled when it is first needed, each graph in a memory of its own,
// without files, clock or network, until its context ends.
//
//go:embed graphviz/graphviz.wasm
var graphvizWasm []byte

// maxMemory is what the layout of one graph may use, in pages of 64 KiB.
const maxMemory = 1 << 14

// errInput says that Graphviz did not accept or could not lay out a graph.
var errInput = errors.New("graphviz refused the graph")

// program is Graphviz, compiled.
type program struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
}

var compiled = sync.OnceValues(func() (*program, error) {
	ctx := experimental.WithCompilationWorkers(context.Background(), runtime.GOMAXPROCS(0))
	p := &program{runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCloseOnContextDone(true).WithMemoryLimitPages(maxMemory))}
	var err error
	if p.module, err = p.runtime.CompileModule(ctx, graphvizWasm); err != nil {
		return nil, fmt.Errorf("compiling Graphviz: %w", err)
	}
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, p.runtime); err != nil {
		return nil, fmt.Errorf("preparing Graphviz: %w", err)
	}
	return p, p.callbacks(ctx)
})

// callbacks gives Graphviz the functions that it may call for plugins written
// in Go. There are none, so none is ever called.
func (p *program) callbacks(ctx context.Context) error {
	env := p.runtime.NewHostModuleBuilder("env")
	for _, f := range p.module.ImportedFunctions() {
		if module, name, _ := f.Import(); module == "env" {
			none := api.GoModuleFunc(func(context.Context, api.Module, []uint64) { panic(name + " is not there") })
			env.NewFunctionBuilder().WithGoModuleFunction(none, f.ParamTypes(), f.ResultTypes()).Export(name)
		}
	}
	if _, err := env.Instantiate(ctx); err != nil {
		return fmt.Errorf("preparing Graphviz: %w", err)
	}
	return nil
}

// layout has Graphviz lay out a graph with an engine and write it in a format.
func layout(ctx context.Context, engine, format, dot string) (string, error) {
	p, err := compiled()
	if err != nil {
		return "", err
	}
	m, err := p.runtime.InstantiateModule(ctx, p.module, wazero.NewModuleConfig().WithName(""))
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("starting Graphviz: %w", err)
	}
	run := &run{ctx: ctx, module: m}
	defer func() { _ = m.Close(context.WithoutCancel(ctx)) }()
	out := run.layout(engine, format, dot)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case run.err != nil:
		return "", fmt.Errorf("%w: %w", errInput, run.err)
	}
	return out, nil
}

// run is one use of Graphviz. After an error nothing is called any more.
type run struct {
	ctx    context.Context
	module api.Module
	err    error
}

const (
	pointer = 4 // bytes of a pointer
	quiet   = 2 // the level at which Graphviz keeps errors and prints none
)

func (r *run) layout(engine, format, dot string) string {
	r.call("agseterr", quiet)
	gvc := r.call("gvContextPlugins", r.plugins(), 0)
	graph := r.call("agmemread", r.text(dot))
	if graph == 0 {
		r.fail("reading it")
	}
	if r.call("gvLayout", gvc, graph, r.text(engine)) != 0 {
		r.fail("laying it out")
	}
	out := r.call("malloc", 2*pointer)
	if r.call("gvRenderData", gvc, graph, r.text(format), out, out+pointer) != 0 {
		r.fail("writing it")
	}
	return string(r.read(r.word(out), r.word(out+pointer)))
}

// plugins returns the list of plugins that gvContextPlugins takes: pairs of
// pointers, ended by an empty one.
func (r *run) plugins() uint64 {
	at := r.call("malloc", pointer)
	r.call("wasm_bridge_SymList_default", at)
	slice := r.word(at)
	n, data := r.word(slice), r.word(slice+pointer)
	list := r.call("calloc", n+1, 2*pointer)
	for i := range n {
		r.write(list+2*pointer*i, r.read(r.word(data+2*pointer*i), 2*pointer))
	}
	return list
}

func (r *run) call(name string, args ...uint64) uint64 {
	if r.err != nil {
		return 0
	}
	f := r.module.ExportedFunction(name)
	if f == nil {
		r.err = fmt.Errorf("%s is missing", name)
		return 0
	}
	out, err := f.Call(r.ctx, args...)
	if err != nil {
		text, _, _ := strings.Cut(err.Error(), "\n") // the rest is a stack
		r.err = errors.New(text)
		return 0
	}
	if len(out) == 0 {
		return 0
	}
	return out[0]
}

// fail keeps what Graphviz says of its last error.
func (r *run) fail(doing string) {
	at := r.call("aglasterr")
	if r.err != nil {
		return
	}
	said := "no reason given"
	if at != 0 {
		said = strings.TrimSpace(r.string(at))
	}
	r.err = fmt.Errorf("%s: %s", doing, clip(visible(said), 200))
}

// text puts a string into memory.
func (r *run) text(s string) uint64 {
	at := r.call("malloc", uint64(len(s))+1)
	r.write(at, append([]byte(s), 0))
	return at
}

func (r *run) write(at uint64, b []byte) {
	if r.err == nil && !r.module.Memory().Write(uint32(at), b) {
		r.err = errors.New("it does not fit into memory")
	}
}

func (r *run) read(at, n uint64) []byte {
	if r.err != nil {
		return nil
	}
	b, ok := r.module.Memory().Read(uint32(at), uint32(n))
	if !ok {
		r.err = errors.New("memory ends before the answer does")
	}
	return b
}

func (r *run) word(at uint64) uint64 {
	b := r.read(at, pointer)
	if len(b) < pointer {
		return 0
	}
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24
}

// string reads up to the byte that ends a string, or as much as an error needs.
func (r *run) string(at uint64) string {
	for n := uint64(1); n < 1000; n++ {
		if b := r.read(at, n); len(b) == 0 || b[n-1] == 0 {
			return string(b[:max(0, len(b)-1)])
		}
	}
	return string(r.read(at, 1000))
}
