// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"errors"
	"fmt"
	"strings"
)

// Conditions evaluates preconditions and the conditions of denials: a map with any or
// all, a list of such maps, all of which must hold, or a list of conditions, all of
// which must hold. No conditions hold. The message is that of the conditions that
// decide, where they have messages.
func Conditions(tree any, c Lookup) (holds bool, message string, err error) {
	switch t := tree.(type) {
	case nil:
		return true, "", nil
	case map[string]any:
		return block(t, c)
	case []any:
		return blocks(t, c)
	}
	return false, "", errors.New("evaluating conditions: they are neither a map nor a list")
}

// blocks evaluates a list, the items of which must all hold.
func blocks(items []any, c Lookup) (bool, string, error) {
	var messages []string
	for i, item := range items {
		of, ok := item.(map[string]any)
		if !ok {
			return false, "", fmt.Errorf("evaluating conditions: item %d is no map", i)
		}
		evaluate := condition
		if isBlock(of) {
			evaluate = block
		}
		holds, message, err := evaluate(of, c)
		if err != nil || !holds {
			return false, message, err
		}
		messages = append(messages, message)
	}
	return true, joinMessages(messages, ";"), nil
}

func isBlock(of map[string]any) bool {
	_, anyOf := of["any"]
	_, allOf := of["all"]
	return anyOf || allOf || len(of) == 0
}

// block evaluates any and all: one of the conditions of the first must hold, if it is
// there, and all of the second.
func block(of map[string]any, c Lookup) (bool, string, error) {
	anyOf, err := conditionsOf(of, "any")
	if err != nil {
		return false, "", err
	}
	allOf, err := conditionsOf(of, "all")
	if err != nil {
		return false, "", err
	}
	var held, failed []string
	anyHolds := anyOf == nil
	for _, item := range anyOf {
		holds, message, err := condition(item, c)
		if err != nil {
			return false, "", err
		}
		if holds {
			held = append(held, message)
			anyHolds = true
			break
		}
		failed = append(failed, message)
	}
	allHold := true
	for _, item := range allOf {
		holds, message, err := condition(item, c)
		if err != nil {
			return false, "", err
		}
		if !holds {
			failed = append(failed, message)
			allHold = false
			break
		}
		held = append(held, message)
	}
	if anyHolds && allHold {
		return true, joinMessages(held, "; "), nil
	}
	return false, joinMessages(failed, "; "), nil
}

// conditionsOf returns the conditions of a field; nil where it is not there.
func conditionsOf(of map[string]any, field string) ([]map[string]any, error) {
	value, ok := of[field]
	if !ok || value == nil {
		return nil, nil
	}
	items, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf("evaluating conditions: %s is no list", field)
	}
	out := make([]map[string]any, 0, len(items))
	for i, item := range items {
		condition, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("evaluating conditions: item %d of %s is no map", i, field)
		}
		out = append(out, condition)
	}
	return out, nil
}

// condition evaluates one condition.
func condition(of map[string]any, c Lookup) (bool, string, error) {
	message, _ := of["message"].(string)
	key, err := operandOf(of, "key", c)
	if err != nil {
		return false, "", err
	}
	value, err := operandOf(of, "value", c)
	if err != nil {
		return false, "", err
	}
	name, _ := of["operator"].(string)
	lower := strings.ToLower(name)
	evaluate, ok := operators[lower]
	if !ok {
		return false, "", fmt.Errorf("there is no operator %q of conditions; want one such as Equals or AnyIn", name)
	}
	if keys, ok := key.([]any); ok && (lower == "in" || lower == "notin") && !all[string](keys) {
		return false, "", fmt.Errorf("the key of a condition is a list with items that are no texts, which %s does not take; Any%[1]s and All%[1]s do", name)
	}
	if err := comparable(key, value); err != nil {
		return false, "", err
	}
	return evaluate(key, value, name), message, nil
}

// maxCompared bounds the bytes of wildcards that are held against items of a list.
const maxCompared = 32 << 20

// comparable says that two lists are too long to be held against each other: only
// texts without wildcards are found without looking at each.
func comparable(key, value any) error {
	keys, ok := key.([]any)
	if !ok {
		return nil
	}
	values := []any{value}
	if list, ok := value.([]any); ok {
		values = list
	}
	items := len(values)
	if text, ok := value.(string); ok {
		items += strings.Count(text, ",") // of JSON
	}
	if len(keys)*wild(values)+wild(keys)*items > maxCompared {
		return errors.New("the lists of a condition are too long to be compared, since there are wildcards in them")
	}
	return nil
}

// wild is how long the texts with wildcards are together.
func wild(items []any) int {
	n := 0
	for _, item := range items {
		if text, ok := item.(string); ok && hasWildcard(text) {
			n += len(text)
		}
	}
	return n
}

func hasWildcard(s string) bool { return strings.ContainsAny(s, "*?") }

// operandOf returns the key or the value of a condition. An integer that is written in
// the condition itself is a number as expressions have them.
func operandOf(of map[string]any, field string, c Lookup) (any, error) {
	switch v := of[field].(type) {
	case int:
		return float64(v), nil
	case int64:
		return float64(v), nil
	}
	v, err := Substitute(of[field], c)
	if err != nil {
		return nil, fmt.Errorf("the %s of a condition: %w", field, err)
	}
	return v, nil
}

// joinMessages joins those messages that say something.
func joinMessages(messages []string, separator string) string {
	var said []string
	for _, m := range messages {
		if m != "" {
			said = append(said, m)
		}
	}
	return strings.Join(said, separator)
}
