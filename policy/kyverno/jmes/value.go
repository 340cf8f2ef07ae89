// SPDX-License-Identifier: Apache-2.0

package jmes

// items is a list as expressions see it. The function items makes lists of another
// type than all others, which some functions do not take.
type items struct {
	any   []any
	pairs []map[string]any
}

func list(value any) (items, bool) {
	switch v := value.(type) {
	case []any:
		return items{any: v}, true
	case []map[string]any:
		return items{pairs: v}, true
	}
	return items{}, false
}

func (l items) len() int { return len(l.any) + len(l.pairs) }

func (l items) at(i int) any {
	if l.any != nil {
		return l.any[i]
	}
	return l.pairs[i]
}

func (l items) appendTo(to []any) []any {
	to = append(to, l.any...)
	for _, p := range l.pairs {
		to = append(to, p)
	}
	return to
}

// isFalse says whether a value counts as false.
func isFalse(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case map[string]any:
		return len(v) == 0
	}
	l, ok := list(value)
	return ok && l.len() == 0
}

// equal says whether two values are the same, of the same types.
func (r *run) equal(a, b any) (bool, error) {
	if err := r.spend(1); err != nil {
		return false, err
	}
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) || (a == nil) != (b == nil) {
			return false, nil
		}
		return r.equalMaps(a, b)
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) || (a == nil) != (b == nil) {
			return false, nil
		}
		return r.equalLists(items{any: a}, items{any: b})
	case []map[string]any:
		b, ok := b.([]map[string]any)
		if !ok || len(a) != len(b) {
			return false, nil
		}
		return r.equalLists(items{pairs: a}, items{pairs: b})
	case Unknown:
		return false, &UnknownError{string(a)}
	}
	return equalScalars(a, b)
}

func equalScalars(a, b any) (bool, error) {
	switch b := b.(type) {
	case Unknown:
		return false, &UnknownError{string(b)}
	case nil, bool, string, int, int64, float64:
		return a == b, nil
	}
	return false, nil
}

func (r *run) equalMaps(a, b map[string]any) (bool, error) {
	for k, v := range a {
		other, ok := b[k]
		if !ok {
			return false, nil
		}
		if same, err := r.equal(v, other); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func (r *run) equalLists(a, b items) (bool, error) {
	for i := range a.len() {
		if same, err := r.equal(a.at(i), b.at(i)); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// plain returns a value in the types that trees have.
func (r *run) plain(value any) (any, error) {
	if err := r.spend(1); err != nil {
		return nil, err
	}
	switch v := value.(type) {
	case int:
		return int64(v), nil
	case refExpr:
		return nil, errBroken
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			p, err := r.plain(item)
			if err != nil {
				return nil, err
			}
			out[k] = p
		}
		return out, nil
	}
	l, ok := list(value)
	if !ok {
		return value, nil
	}
	out := make([]any, 0, l.len())
	for i := range l.len() {
		p, err := r.plain(l.at(i))
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// measure spends what walking a whole value takes, and refuses one that holds what is
// not told or what is no value.
func (r *run) measure(value any) error {
	if err := r.spend(1); err != nil {
		return err
	}
	switch v := value.(type) {
	case string:
		return r.spend(len(v))
	case Unknown:
		return &UnknownError{string(v)}
	case refExpr:
		return errBroken
	case map[string]any:
		for k, item := range v {
			if err := r.spend(len(k)); err != nil {
				return err
			}
			if err := r.measure(item); err != nil {
				return err
			}
		}
	}
	l, _ := list(value)
	for i := range l.len() {
		if err := r.measure(l.at(i)); err != nil {
			return err
		}
	}
	return nil
}
