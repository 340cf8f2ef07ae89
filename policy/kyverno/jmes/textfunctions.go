// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"errors"
	"path"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/blang/semver/v4"

	"sconce.dev/sconce/policy/kyverno/pattern"
)

var textFunctions = map[string]*function{
	"starts_with": twoTexts(func(a, b string) any { return strings.HasPrefix(a, b) }),
	"ends_with":   twoTexts(func(a, b string) any { return strings.HasSuffix(a, b) }),
	"compare":     twoTexts(func(a, b string) any { return strings.Compare(a, b) }),
	"equal_fold":  twoTexts(func(a, b string) any { return strings.EqualFold(a, b) }),
	"trim":        twoTexts(func(a, b string) any { return strings.Trim(a, b) }),
	"trim_prefix": twoTexts(func(a, b string) any { return strings.TrimPrefix(a, b) }),
	"to_upper":    oneText(strings.ToUpper),
	"to_lower":    oneText(strings.ToLower),
	"replace":     {args: []types{text, text, text, number}, call: replace},
	"replace_all": {args: []types{text, text, text}, call: func(r *run, args []any) (any, error) {
		return r.replace(args[0].(string), args[1].(string), args[2].(string), -1)
	}},
	"split":             {args: []types{text, text}, call: split},
	"truncate":          {args: []types{text, number}, call: truncate},
	"path_canonicalize": oneText(func(s string) string { return path.Join("", s) }),
	"semver_compare":    {args: []types{text, text}, call: semverCompare},
}

func oneText(f func(s string) string) *function {
	return &function{args: []types{text}, call: func(r *run, args []any) (any, error) {
		s := f(args[0].(string))
		return s, r.spendText(len(s))
	}}
}

func twoTexts(f func(a, b string) any) *function {
	return &function{args: []types{text, text}, call: func(r *run, args []any) (any, error) {
		a, b := args[0].(string), args[1].(string)
		return f(a, b), r.spend(len(a) + len(b))
	}}
}

func replace(r *run, args []any) (any, error) {
	return r.replace(args[0].(string), args[1].(string), args[2].(string), int(args[3].(float64)))
}

// replace replaces the first n of the places where old stands, or all if n is
// negative.
func (r *run) replace(s, old, by string, n int) (any, error) {
	if err := r.spend(len(s)); err != nil {
		return nil, err
	}
	places := strings.Count(s, old)
	if n >= 0 {
		places = min(places, n)
	}
	if err := r.spendText(len(s) + places*max(len(by)-len(old), 0)); err != nil {
		return nil, err
	}
	return strings.Replace(s, old, by, n), nil
}

func split(r *run, args []any) (any, error) {
	s := args[0].(string)
	if err := r.spend(len(s)); err != nil {
		return nil, err
	}
	parts := []any{}
	for part := range strings.SplitSeq(s, args[1].(string)) {
		parts = append(parts, part)
	}
	return parts, nil
}

func truncate(r *run, args []any) (any, error) {
	s, n := args[0].(string), int(max(args[1].(float64), 0))
	switch {
	case n < 1:
		return "", nil
	case n >= utf8.RuneCountInString(s):
		return s, nil
	}
	return string([]rune(s)[:n]), r.spend(len(s))
}

// maxVersion is how long a version, or a range of versions, may be.
const maxVersion = 4096

func semverCompare(_ *run, args []any) (any, error) {
	text, of := args[0].(string), args[1].(string)
	if len(text) > maxVersion || len(of) > maxVersion {
		return nil, errString
	}
	// What is no version counts as 0.0.0.
	version, err := semver.Parse(text)
	if err != nil {
		version = semver.Version{}
	}
	in, err := semver.ParseRange(of)
	if err != nil {
		return nil, errors.New("argument 2 is no range of versions")
	}
	return in(version), nil
}

var regexFunctions = map[string]*function{
	"regex_match":               {args: []types{text, text | number}, call: regexMatch},
	"regex_replace_all":         {args: []types{text, text | number, text | number}, call: regexReplaceAll},
	"regex_replace_all_literal": {args: []types{text, text | number, text | number}, call: regexReplaceLiteral},
	"pattern_match":             {args: []types{text, text | number}, call: patternMatch},
}

// regexes are compiled regular expressions. They are forgotten when there are many.
var regexes = struct {
	sync.Mutex
	compiled map[string]*regexp.Regexp
}{compiled: map[string]*regexp.Regexp{}}

const (
	// maxRegex is how long an expression may be, maxRegexes how many are kept, none of
	// them longer than maxKeptRegex, and maxMatches how many places are replaced.
	maxRegex     = 4096
	maxRegexes   = 256
	maxKeptRegex = 256
	maxMatches   = 100_000
)

func regex(s string) (*regexp.Regexp, error) {
	if len(s) > maxRegex {
		return nil, errString
	}
	regexes.Lock()
	defer regexes.Unlock()
	if re, ok := regexes.compiled[s]; ok {
		return re, nil
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, err
	}
	if len(regexes.compiled) >= maxRegexes {
		clear(regexes.compiled)
	}
	if len(s) <= maxKeptRegex {
		regexes.compiled[s] = re
	}
	return re, nil
}

func regexMatch(r *run, args []any) (any, error) {
	re, err := regex(args[0].(string))
	if err != nil {
		return nil, err
	}
	s, _ := scalarText(args[1])
	return re.MatchString(s), r.spend(len(s))
}

func regexReplaceAll(r *run, args []any) (any, error) {
	by, _ := scalarText(args[2])
	return r.replaceMatches(args, func(re *regexp.Regexp, to []byte, s string, match []int) []byte {
		return re.ExpandString(to, by, s, match)
	})
}

func regexReplaceLiteral(r *run, args []any) (any, error) {
	by, _ := scalarText(args[2])
	return r.replaceMatches(args, func(_ *regexp.Regexp, to []byte, _ string, _ []int) []byte {
		return append(to, by...)
	})
}

// replaceMatches replaces what a regular expression matches.
func (r *run) replaceMatches(args []any, expand func(re *regexp.Regexp, to []byte, s string, match []int) []byte) (any, error) {
	re, err := regex(args[0].(string))
	if err != nil {
		return nil, err
	}
	s, _ := scalarText(args[1])
	if err := r.spend(len(s)); err != nil {
		return nil, err
	}
	var out []byte
	end := 0
	found := re.FindAllStringSubmatchIndex(s, maxMatches+1)
	if len(found) > maxMatches {
		return nil, errSteps
	}
	for _, match := range found {
		out = expand(re, append(out, s[end:match[0]]...), s, match)
		end = match[1]
		if len(out) > maxString {
			return nil, errString
		}
	}
	out = append(out, s[end:]...)
	return string(out), r.spendText(len(out))
}

func patternMatch(r *run, args []any) (any, error) {
	s, _ := scalarText(args[1])
	if err := r.spend(len(s)); err != nil {
		return nil, err
	}
	return pattern.Wildcard(args[0].(string), s), nil
}
