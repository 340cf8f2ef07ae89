// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	regen "github.com/zach-klippenstein/goregen"
)

// randomLib makes strings of an expression, as Kyverno's library of that name
// does, within bounds.
type randomLib struct{}

// LibraryName implements cel.SingletonLibrary.
func (randomLib) LibraryName() string { return "kyverno.random" }

// CompileOptions implements cel.Library.
func (randomLib) CompileOptions() []cel.EnvOption {
	overloads := func(suffix string) []cel.FunctionOpt {
		return []cel.FunctionOpt{
			cel.Overload("random_string_"+suffix, []*cel.Type{cel.StringType}, cel.StringType, cel.UnaryBinding(random)),
			cel.Overload("random_default_"+suffix, nil, cel.StringType, cel.FunctionBinding(func(...ref.Val) ref.Val {
				return random(types.String("[0-9a-z]{8}"))
			})),
		}
	}
	return []cel.EnvOption{cel.Function("random", overloads("plain")...), cel.Function("random.random", overloads("prefixed")...)}
}

// ProgramOptions implements cel.Library.
func (randomLib) ProgramOptions() []cel.ProgramOption { return nil }

// The bounds of what random makes: repetitions multiply where they are nested.
const (
	maxPattern    = 256
	maxUnbounded  = 3
	maxRepetition = 32
)

func random(arg ref.Val) ref.Val {
	pattern, ok := arg.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(arg)
	}
	if len(pattern) > maxPattern || strings.Count(string(pattern), "*")+strings.Count(string(pattern), "+")+strings.Count(string(pattern), ",}") > maxUnbounded {
		return types.NewErr("random: the expression is longer than %d characters, or repeats without end more than %d times", maxPattern, maxUnbounded)
	}
	g, err := regen.NewGenerator(string(pattern), &regen.GeneratorArgs{MaxUnboundedRepeatCount: maxRepetition})
	if err != nil {
		return types.WrapErr(fmt.Errorf("random: %w", err))
	}
	return types.String(g.Generate())
}

// gzipLib packs and unpacks, as Kyverno's library of that name does, within
// bounds.
type gzipLib struct{}

// maxUnpacked is the most that is unpacked.
const maxUnpacked = 8 << 20

// LibraryName implements cel.SingletonLibrary.
func (gzipLib) LibraryName() string { return "kyverno.gzip" }

// CompileOptions implements cel.Library.
func (gzipLib) CompileOptions() []cel.EnvOption {
	return []cel.EnvOption{
		cel.Function("gzip.decompress", cel.Overload("gzip_decompress_bytes", []*cel.Type{cel.BytesType}, cel.StringType, cel.UnaryBinding(unpack))),
		cel.Function("gzip.compress", cel.Overload("gzip_compress_any", []*cel.Type{cel.DynType}, cel.BytesType, cel.UnaryBinding(pack))),
	}
}

// ProgramOptions implements cel.Library.
func (gzipLib) ProgramOptions() []cel.ProgramOption { return nil }

func unpack(arg ref.Val) ref.Val {
	data, ok := arg.(types.Bytes)
	if !ok {
		return types.MaybeNoSuchOverloadErr(arg)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return types.WrapErr(fmt.Errorf("gzip: %w", err))
	}
	out, err := io.ReadAll(io.LimitReader(r, maxUnpacked+1))
	switch {
	case err != nil:
		return types.WrapErr(fmt.Errorf("gzip: %w", err))
	case len(out) > maxUnpacked:
		return types.NewErr("gzip: more than %d MiB", maxUnpacked>>20)
	}
	return types.String(out)
}

func pack(arg ref.Val) ref.Val {
	text, ok := arg.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(arg)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.ModTime = time.Unix(0, 0) // the same text is packed the same way
	if _, err := io.WriteString(w, string(text)); err != nil {
		return types.WrapErr(fmt.Errorf("gzip: %w", err))
	}
	if err := w.Close(); err != nil {
		return types.WrapErr(fmt.Errorf("gzip: %w", err))
	}
	return types.Bytes(out.Bytes())
}

// unknownError says what is not known and is needed.
type unknownError struct{ what string }

// Error implements error.
func (e *unknownError) Error() string { return e.what }
