// SPDX-License-Identifier: Apache-2.0

// Command sconce holds Kubernetes configuration against a security baseline.
package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"sconce.dev/sconce/cli"
)

// A scan makes much garbage and keeps little. While little is kept, the heap is
// let grow to five times of it before it is collected, which saves a fifth of
// the time; beyond roomyHeap it grows to twice of what is kept, as is usual, and
// never by much more than maxGrowth: facts about a whole cluster keep much. Where
// there is a memory limit (an agent has that of its container), half of it may be
// used freely.
const (
	roomy = 400
	usual = 100
	least = 25
)

var (
	roomyHeap uint64 = 64 << 20
	maxGrowth uint64 = 160 << 20
)

func main() {
	if os.Getenv("GOGC") == "" { // who sets it knows better
		if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
			roomyHeap, maxGrowth = max(roomyHeap, uint64(limit)/2), max(maxGrowth, uint64(limit)/4)
		}
		debug.SetGCPercent(roomy)
		afterEachGC()
	}
	os.Exit(cli.Main(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// afterEachGC sets how far the heap may grow until the next collection, now and
// after each. What it allocates is found dead by the next one.
func afterEachGC() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if bytes := live[0].Value.Uint64(); bytes > 0 {
		percent := max(least, min(usual, int(maxGrowth*100/bytes)))
		if bytes < roomyHeap {
			percent = max(usual, min(roomy, int((roomyHeap-bytes)*100/bytes)))
		}
		debug.SetGCPercent(percent)
	}
	runtime.AddCleanup(new([16]byte), func(struct{}) { afterEachGC() }, struct{}{})
}
