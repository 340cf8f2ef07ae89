// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/blang/semver/v4"

	"sconce.dev/sconce/policy/kyverno/pattern"
)

// operator says whether a condition holds. The name of the operator is as the
// condition writes it.
type operator func(key, value any, name string) bool

// operators are the operators of conditions, by their names in lower case.
var operators = map[string]operator{
	"equal":                       equals,
	"equals":                      equals,
	"notequal":                    notEquals,
	"notequals":                   notEquals,
	"in":                          in,
	"notin":                       notIn,
	"anyin":                       membership{}.holds,
	"allin":                       membership{all: true}.holds,
	"anynotin":                    membership{not: true}.holds,
	"allnotin":                    membership{all: true, not: true}.holds,
	"greaterthanorequals":         compareNumbers,
	"greaterthan":                 compareNumbers,
	"lessthanorequals":            compareNumbers,
	"lessthan":                    compareNumbers,
	"durationgreaterthanorequals": compareDurations,
	"durationgreaterthan":         compareDurations,
	"durationlessthanorequals":    compareDurations,
	"durationlessthan":            compareDurations,
}

func equals(key, value any, _ string) bool {
	same, _ := sameValue(key, value)
	return same
}

// notEquals does not hold for a key that cannot be compared at all.
func notEquals(key, value any, _ string) bool {
	same, comparable := sameValue(key, value)
	return comparable && !same
}

// sameValue says whether a value is what a key is, and whether the key can be compared.
func sameValue(key, value any) (same, comparable bool) {
	switch k := key.(type) {
	case bool:
		v, ok := value.(bool)
		return ok && k == v, true
	case int:
		return sameInt(int64(k), value), true
	case int64:
		return sameInt(k, value), true
	case float64:
		return sameFloat(k, value), true
	case string:
		return sameText(k, value), true
	case map[string]any:
		v, ok := value.(map[string]any)
		return ok && reflect.DeepEqual(k, v), true
	case []any:
		v, ok := value.([]any)
		return ok && reflect.DeepEqual(k, v), true
	}
	return false, false
}

func sameInt(key int64, value any) bool {
	switch v := value.(type) {
	case int:
		return int64(v) == key
	case int64:
		return v == key
	case float64:
		return v == math.Trunc(v) && int64(v) == key
	case string:
		i, err := strconv.ParseInt(v, 10, 64)
		return err == nil && i == key
	}
	return false
}

func sameFloat(key float64, value any) bool {
	switch v := value.(type) {
	case int:
		return key == math.Trunc(key) && int(key) == v
	case int64:
		return key == math.Trunc(key) && int64(key) == v
	case float64:
		return v == key
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return err == nil && f == key
	}
	return false
}

func sameText(key string, value any) bool {
	if k, v, ok := durations(key, value); ok {
		return k.Seconds() == v.Seconds()
	}
	text, ok := value.(string)
	if !ok {
		return false
	}
	if k, ok := pattern.ParseQuantity(key); ok {
		v, ok := pattern.ParseQuantity(text)
		return ok && k.Cmp(v) == 0
	}
	return pattern.Wildcard(text, key)
}

// durations returns two values as durations, if one of them is one and the other a
// number, of seconds, or one too. The text 0 is none.
func durations(key, value any) (k, v time.Duration, ok bool) {
	k, isKey := duration(key)
	v, isValue := duration(value)
	if !isKey && !isValue {
		return 0, 0, false
	}
	if !isKey {
		k, isKey = secondsOf(key)
	}
	if !isValue {
		v, isValue = secondsOf(value)
	}
	return k, v, isKey && isValue
}

func duration(value any) (time.Duration, bool) {
	text, ok := value.(string)
	if !ok || text == "0" {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

func secondsOf(value any) (time.Duration, bool) {
	switch v := value.(type) {
	case int:
		return time.Duration(v) * time.Second, true
	case int64:
		return time.Duration(v) * time.Second, true
	case float64:
		return time.Duration(v) * time.Second, true
	}
	return 0, false
}

// compareNumbers compares durations, quantities, numbers and versions. The name of the
// operator must be written as it is defined, or nothing holds.
func compareNumbers(key, value any, name string) bool {
	sign, ok := compareValues(key, value)
	return ok && ordered(sign, name)
}

func ordered(sign int, name string) bool {
	switch name {
	case "GreaterThanOrEquals":
		return sign >= 0
	case "GreaterThan":
		return sign > 0
	case "LessThanOrEquals":
		return sign <= 0
	case "LessThan":
		return sign < 0
	}
	return false
}

func compareValues(key, value any) (sign int, ok bool) {
	switch key.(type) {
	case int, int64, float64, string:
	default:
		return 0, false
	}
	if k, v, ok := durations(key, value); ok {
		return cmp.Compare(k.Seconds(), v.Seconds()), true
	}
	text, isText := key.(string)
	if !isText {
		return compareNumber(key, value)
	}
	if sign, ok := compareQuantities(text, value); ok {
		return sign, true
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		return compareValues(f, value)
	}
	return compareVersions(text, value)
}

func compareQuantities(key string, value any) (sign int, ok bool) {
	text, ok := value.(string)
	if !ok {
		return 0, false
	}
	k, ok := pattern.ParseQuantity(key)
	if !ok {
		return 0, false
	}
	v, ok := pattern.ParseQuantity(text)
	if !ok {
		return 0, false
	}
	return k.Cmp(v), true
}

func compareNumber(key, value any) (sign int, ok bool) {
	k, ok := floatOf(key)
	if !ok {
		return 0, false
	}
	v, ok := floatOf(value)
	if !ok || math.IsNaN(k) || math.IsNaN(v) {
		return 0, false
	}
	return cmp.Compare(k, v), true
}

func floatOf(value any) (float64, bool) {
	switch v := value.(type) {
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil
	}
	return 0, false
}

func compareVersions(key string, value any) (sign int, ok bool) {
	text, ok := value.(string)
	if !ok {
		return 0, false
	}
	k, err := semver.Parse(key)
	if err != nil {
		return 0, false
	}
	v, err := semver.Parse(text)
	if err != nil {
		return 0, false
	}
	return k.Compare(v), true
}

// compareDurations compares durations, as which numbers are seconds.
func compareDurations(key, value any, name string) bool {
	k, ok := durationOf(key)
	v, also := durationOf(value)
	short, is := strings.CutPrefix(name, "Duration")
	return ok && also && is && ordered(cmp.Compare(k, v), short)
}

func durationOf(value any) (time.Duration, bool) {
	if text, ok := value.(string); ok {
		d, err := time.ParseDuration(text)
		return d, err == nil
	}
	return secondsOf(value)
}

// isScalar says whether a value is a number or a boolean, which some operators take
// as texts.
func isScalar(value any) bool {
	switch value.(type) {
	case int, int64, float64, bool:
		return true
	}
	return false
}

// either says whether one of two texts is a pattern that the other matches.
func either(a, b string) bool { return pattern.Wildcard(a, b) || pattern.Wildcard(b, a) }

// in is the operator In, which AnyIn and AllIn replace. It takes only texts in lists.
func in(key, value any, _ string) bool {
	if keys, ok := key.([]any); ok {
		wanted, ok := textsOf(keys)
		if !ok {
			return false
		}
		found, ok := subset(wanted, value)
		return ok && found
	}
	found, ok := oldMember(key, value)
	return ok && found
}

// notIn is the operator NotIn, which AnyNotIn and AllNotIn replace.
func notIn(key, value any, _ string) bool {
	if keys, ok := key.([]any); ok {
		wanted, ok := textsOf(keys)
		if !ok {
			return false
		}
		// A single key that is the value counts as not in it.
		if text, isText := value.(string); isText && len(wanted) == 1 && wanted[0] == text {
			return true
		}
		found, ok := subset(wanted, value)
		return ok && !found
	}
	found, ok := oldMember(key, value)
	return ok && !found
}

func textsOf(items []any) ([]string, bool) {
	texts := make([]string, 0, len(items))
	for _, item := range items {
		text, ok := item.(string)
		if !ok {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, true
}

// subset says whether all keys are among the values, and whether these are a list of
// texts, or JSON of one.
func subset(keys []string, value any) (all, ok bool) {
	var values []string
	switch v := value.(type) {
	case []any:
		if values, ok = textsOf(v); !ok {
			return false, false
		}
	case string:
		if len(keys) == 1 && keys[0] == v {
			return true, true
		}
		if json.Unmarshal([]byte(v), &values) != nil {
			return false, false
		}
	default:
		return false, false
	}
	in := make(map[string]bool, len(values))
	for _, v := range values {
		in[v] = true
	}
	for _, key := range keys {
		if !in[key] {
			return false, true
		}
	}
	return true, true
}

// oldMember says whether a key that is no list is among the values.
func oldMember(key, value any) (found, ok bool) {
	text, ok := keyText(key)
	if !ok {
		return false, false
	}
	switch v := value.(type) {
	case []any:
		return anyMatches(text, v), true
	case string:
		if pattern.Wildcard(v, text) {
			return true, true
		}
		var values []string
		if json.Unmarshal([]byte(v), &values) != nil {
			return false, false
		}
		return contain(values, text), true
	}
	return false, false
}

func keyText(key any) (string, bool) {
	if text, ok := key.(string); ok {
		return text, true
	}
	if !isScalar(key) {
		return "", false
	}
	return fmt.Sprint(key), true
}

func anyMatches(key string, values []any) bool {
	for _, v := range values {
		if either(fmt.Sprint(v), key) {
			return true
		}
	}
	return false
}

func contain(values []string, key string) bool {
	for _, v := range values {
		if v == key {
			return true
		}
	}
	return false
}

// membership is one of AnyIn, AllIn, AnyNotIn and AllNotIn.
type membership struct{ all, not bool }

func (m membership) holds(key, value any, _ string) bool {
	keys, ok := key.([]any)
	if !ok {
		text, ok := keyText(key)
		if !ok {
			return false
		}
		found, ok := member(text, value)
		return ok && found != m.not
	}
	texts := make([]string, 0, len(keys))
	for _, k := range keys {
		texts = append(texts, fmt.Sprint(k))
	}
	return m.holdsForAll(texts, value)
}

// member says whether a key is among the values: a list, a range, JSON of a list, or
// one value.
func member(key string, value any) (found, ok bool) {
	switch v := value.(type) {
	case []any:
		return anyMatches(key, v), true
	case string:
		if pattern.Wildcard(v, key) {
			return true, true
		}
		if pattern.IsRange(v) {
			return pattern.Value(key, v), true
		}
		values, ok := valuesOf(v)
		return contain(values, key), ok
	}
	return false, false
}

// valuesOf returns the texts of a JSON list or, of what is no JSON, the text itself.
func valuesOf(s string) ([]string, bool) {
	if !json.Valid([]byte(s)) {
		return []string{s}, true
	}
	var values []string
	err := json.Unmarshal([]byte(s), &values)
	return values, err == nil
}

func (m membership) holdsForAll(keys []string, value any) bool {
	var values []string
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			values = append(values, fmt.Sprint(item))
		}
	case string:
		if len(keys) == 1 && keys[0] == v {
			return !m.not
		}
		if pattern.IsRange(v) {
			return m.holdsInRange(keys, v)
		}
		var ok bool
		if values, ok = valuesOf(v); !ok {
			return false
		}
	default:
		// AnyIn and AnyNotIn take a number or a boolean as a list of one.
		if m.all || !isScalar(value) {
			return false
		}
		values = []string{fmt.Sprint(value)}
	}
	return m.decide(keys, among(values))
}

// among returns what says whether a key is one of the values, by wildcards on either
// side.
func among(values []string) func(key string) bool {
	exact := make(map[string]bool, len(values))
	var wild []string
	for _, v := range values {
		exact[v] = true
		if hasWildcard(v) {
			wild = append(wild, v)
		}
	}
	return func(key string) bool {
		if exact[key] {
			return true
		}
		against := wild
		if hasWildcard(key) {
			against = values
		}
		return slices.ContainsFunc(against, func(v string) bool { return either(key, v) })
	}
}

// holdsInRange asks for each key whether it is in a range.
func (m membership) holdsInRange(keys []string, of string) bool {
	if m.not && !m.all {
		outside := strings.Replace(of, "-", "!-", 1)
		for _, key := range keys {
			if pattern.Value(key, outside) {
				return true
			}
		}
		return false
	}
	return m.decide(keys, func(key string) bool { return pattern.Value(key, of) })
}

// decide counts the keys that are found: all of them, or any, must be, or must not be.
func (m membership) decide(keys []string, found func(string) bool) bool {
	for _, key := range keys {
		if hit := found(key) != m.not; hit != m.all {
			return hit
		}
	}
	return m.all
}
