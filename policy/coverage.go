// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"sync"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policytest"
)

// Coverage notes what of policies was run: whoever wants to know gives one in
// the Options. It is safe for concurrent use.
type Coverage struct {
	mu       sync.Mutex
	at       map[placeKey]int
	branches []policytest.Branch
}

// Place is a place of a policy that can be run: a rule, a condition, an
// expression.
type Place struct {
	Policy object.Ref
	// Path is where in the policy it is. Part tells the parts of an expression
	// apart, 0 being all of it.
	Path string
	Part int
}

type placeKey struct {
	Place
	way string
}

// Declare adds a place with its ways, where it is not there yet: they are not
// hit. A way is true or false for a condition, pass or fail for a rule, and ""
// for what is run or not.
func (c *Coverage) Declare(p Place, rule string, at object.Position, text string, ways ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		c.at = map[placeKey]int{}
	}
	for _, way := range ways {
		key := placeKey{p, way}
		if _, ok := c.at[key]; ok {
			continue
		}
		c.at[key] = len(c.branches)
		c.branches = append(c.branches, policytest.Branch{Policy: p.Policy.Name, Rule: rule, Position: at, Text: text, Way: way})
	}
}

// Hit notes that a place went a way. What was not declared is not noted.
func (c *Coverage) Hit(p Place, way string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, ok := c.at[placeKey{p, way}]; ok {
		c.branches[i].Hit = true
	}
}

// Branches returns all places with their ways, in the order of the text.
func (c *Coverage) Branches() []policytest.Branch {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.Clone(c.branches)
	policytest.SortBranches(out)
	return out
}
