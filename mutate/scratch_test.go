package mutate

import (
	"fmt"
	"os"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"strings"
	"testing"
	"time"
)

func TestScratch(t *testing.T) {
	l := baseline.NewLibrary()
	catalog.Read(l)
	ops := map[string][3]int{}
	t0 := time.Now()
	tk, ts := 0, 0
	only := os.Getenv("ONLY")
	for _, name := range l.Controls() {
		if only != "" && !strings.Contains(","+only+",", ","+name+",") {
			continue
		}
		if sk := os.Getenv("NOT"); sk != "" && strings.Contains(name, sk) {
			continue
		}
		file := l.File(name)
		data, _ := os.ReadFile("../" + file)
		fx, fd, _ := catalog.Fixture(file)
		t1 := time.Now()
		r, err := Run(Input{l.Control(name), file, data, fx, fd}, os.Getenv("SEARCH") != "")
		if err != nil {
			fmt.Println(err)
			continue
		}
		k, s := r.Count(Killed), r.Count(Survived)
		tk += k
		ts += s
		fmt.Printf("%5.1f %s %d/%d %v\n", Score(k, s), name, k, k+s, time.Since(t1).Round(time.Millisecond))
		for _, m := range r.Mutants {
			x := ops[m.Operator]
			if m.Outcome == Killed {
				x[0]++
			} else {
				x[1]++
				if !strings.Contains(os.Getenv("SKIP"), m.Operator) {
					fmt.Printf("   %s %d:%d %s: %s -> %s\n", m.ID, m.Position.Line, m.Position.Column, m.Field, m.Before, m.After)
					if m.Case != "" {
						fmt.Println(m.Case)
					} else if m.CaseOf != "" {
						fmt.Println("     as", m.CaseOf)
					} else if os.Getenv("SEARCH") != "" {
						fmt.Println("     NONE")
					}
				}
			}
			ops[m.Operator] = x
		}
	}
	fmt.Println(ops, tk, ts, Score(tk, ts), time.Since(t0))
}
