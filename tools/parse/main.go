// SPDX-License-Identifier: Apache-2.0

// Command parse parses the YAML files below a folder and does nothing with
// them: what a scan is measured against. It uses the same library as Sconce,
// the fastest sound one that was found, on every core.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"go.yaml.in/yaml/v4"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: parse FOLDER")
		os.Exit(2)
	}
	var documents atomic.Int64
	names := make(chan string)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for name := range names {
				documents.Add(parse(name))
			}
		})
	}
	err := filepath.WalkDir(os.Args[1], func(name string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(name); err == nil && !d.IsDir() && (ext == ".yaml" || ext == ".yml") {
			names <- name
		}
		return err
	})
	close(names)
	workers.Wait()
	if err != nil {
		fmt.Fprintln(os.Stderr, "parse:", err)
		os.Exit(1)
	}
	fmt.Println(documents.Load(), "documents")
}

// parse returns how many documents a file holds, up to the first broken one.
func parse(name string) int64 {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		return 0
	}
	var n int64
	for {
		var node yaml.Node
		if err := loader.Load(&node); err != nil {
			if !errors.Is(err, io.EOF) {
				fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			}
			return n
		}
		n++
	}
}
