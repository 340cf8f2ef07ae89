// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/report"
)

func newConvert(s Streams) *cobra.Command {
	f := &outputFlags{}
	cmd := &cobra.Command{
		Use:   "convert [FILE|-]",
		Short: "Make another format from a stored scan, or another language of policies",
		Long: `Convert reads what ` + "`sconce scan -o json`" + ` printed and prints it in another
format, as if the scan had been asked for it.`,
		Example: `  sconce scan -o json . > scan.json
  sconce convert scan.json                 # as a table
  sconce convert -o sarif scan.json --output-file sconce.sarif`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, name := s.In, "standard input"
			if len(args) == 1 && args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("convert: %w", err)
				}
				defer func() { _ = file.Close() }()
				in, name = file, args[0]
			}
			return convert(cmd, s, f, in, name)
		},
	}
	f.register(cmd)
	cmd.AddCommand(newConvertPolicies(s))
	return cmd
}

func convert(cmd *cobra.Command, s Streams, f *outputFlags, in io.Reader, name string) error {
	w, closeOut, err := f.open(cmd, s)
	if err != nil {
		return err
	}
	if err := report.Convert(in, w); err != nil {
		_ = closeOut()
		return fmt.Errorf("convert: reading %s: %w", name, err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	return closeOut()
}
