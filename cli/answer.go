// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/answer"
	"sconce.dev/sconce/picture"
)

// answerFlags choose how an answer is printed, and where.
type answerFlags struct {
	format, file string
	formats      []string
}

// drawnFormats are those of an answer that can be drawn.
var drawnFormats = []string{"table", "json", "dot", "svg", "html"}

func (f *answerFlags) register(cmd *cobra.Command, formats ...string) {
	f.formats = formats
	cmd.Flags().StringVarP(&f.format, "output", "o", "table", "format: "+strings.Join(formats, ", "))
	cmd.Flags().StringVar(&f.file, "output-file", "", "write to this file instead of standard output")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// check refuses an unknown format before anything is read.
func (f *answerFlags) check() error {
	if slices.Contains(f.formats, f.format) {
		return nil
	}
	return fmt.Errorf("unknown output %q; want %s", f.format, strings.Join(f.formats, ", "))
}

// write prints an answer; a file is there when it is whole.
func (f *answerFlags) write(ctx context.Context, cmd *cobra.Command, s Streams, a answer.Answer) error {
	var out bytes.Buffer
	width, _ := terminal(s.Out)
	if err := f.print(ctx, &out, a, answer.NewPage(width, f.file == "" && colour(cmd, s.Out))); err != nil {
		return err
	}
	if f.file == "" {
		_, err := out.WriteTo(s.Out)
		return err
	}
	if err := os.WriteFile(f.file, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

func (f *answerFlags) print(ctx context.Context, w io.Writer, a answer.Answer, page *answer.Page) error {
	draw := map[string]func(context.Context, io.Writer, *picture.Picture) error{
		"dot":  func(_ context.Context, w io.Writer, p *picture.Picture) error { return picture.DOT(w, p) },
		"svg":  picture.SVG,
		"html": picture.HTML,
	}[f.format]
	switch drawn, ok := a.(answer.Drawn); {
	case f.format == "json":
		return answer.JSON(w, a)
	case draw == nil:
		a.Text(page)
		_, err := page.WriteTo(w)
		return err
	case !ok:
		return errors.New("this answer cannot be drawn; want -o table or json")
	default:
		p := drawn.Picture()
		if len(p.Nodes) == 0 {
			return errors.New("the answer is that there is nothing, so there is nothing to draw; see -o table")
		}
		return draw(ctx, w, p)
	}
}
