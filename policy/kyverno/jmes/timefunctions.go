// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

var timeFunctions = map[string]*function{
	"time_since":    {args: []types{text, text, text}, call: timeSince},
	"time_now":      {unchecked: true, call: timeNow},
	"time_now_utc":  {unchecked: true, call: timeNowUTC},
	"time_parse":    {args: []types{text, text}, call: timeParse},
	"time_add":      {args: []types{text, text}, call: timeAdd},
	"time_truncate": {args: []types{text, text}, call: timeTruncate},
	"time_to_cron": ofTimes(1, func(t []time.Time) any {
		return fmt.Sprintf("%d %d %d %d %d", t[0].Minute(), t[0].Hour(), t[0].Day(), t[0].Month(), t[0].Weekday())
	}),
	"time_utc":     ofTimes(1, func(t []time.Time) any { return t[0].UTC().Format(time.RFC3339) }),
	"time_diff":    ofTimes(2, func(t []time.Time) any { return t[1].Sub(t[0]).String() }),
	"time_before":  ofTimes(2, func(t []time.Time) any { return t[0].Before(t[1]) }),
	"time_after":   ofTimes(2, func(t []time.Time) any { return t[0].After(t[1]) }),
	"time_between": ofTimes(3, func(t []time.Time) any { return t[0].After(t[1]) && t[0].Before(t[2]) }),
}

// ofTimes is a function of n times in RFC 3339.
func ofTimes(n int, f func(t []time.Time) any) *function {
	args := make([]types, n)
	for i := range args {
		args[i] = text
	}
	return &function{args: args, call: func(_ *run, args []any) (any, error) {
		times := make([]time.Time, 0, n)
		for _, arg := range args {
			t, err := parseTime(time.RFC3339, arg)
			if err != nil {
				return nil, err
			}
			times = append(times, t)
		}
		return f(times), nil
	}}
}

func parseTime(layout string, arg any) (time.Time, error) {
	s, _ := arg.(string)
	t, err := time.Parse(layout, s)
	if err != nil {
		return t, errors.New("an argument is no time in the layout")
	}
	return t, nil
}

func (r *run) now() (time.Time, error) {
	if r.env.Now.IsZero() {
		return time.Time{}, &UnknownError{"the time"}
	}
	return r.env.Now, nil
}

func timeNow(r *run, _ []any) (any, error) {
	t, err := r.now()
	return t.Format(time.RFC3339), err
}

func timeNowUTC(r *run, _ []any) (any, error) {
	t, err := r.now()
	return t.UTC().Format(time.RFC3339), err
}

func timeSince(r *run, args []any) (any, error) {
	layout, _ := args[0].(string)
	if layout == "" {
		layout = time.RFC3339
	}
	from, err := parseTime(layout, args[1])
	if err != nil {
		return nil, err
	}
	until, err := r.now()
	if args[2] != "" {
		until, err = parseTime(layout, args[2])
	}
	return until.Sub(from).String(), err
}

func timeParse(_ *run, args []any) (any, error) {
	layout, _ := args[0].(string)
	if _, err := strconv.ParseInt(layout, 10, 64); err == nil {
		s, _ := args[1].(string)
		epoch, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, errors.New("argument 2 is no number of seconds")
		}
		return time.Unix(epoch, 0).UTC().Format(time.RFC3339), nil
	}
	t, err := parseTime(layout, args[1])
	return t.Format(time.RFC3339), err
}

func timeAndDuration(args []any) (time.Time, time.Duration, error) {
	t, err := parseTime(time.RFC3339, args[0])
	if err != nil {
		return t, 0, err
	}
	s, _ := args[1].(string)
	d, err := time.ParseDuration(s)
	if err != nil {
		return t, 0, errors.New("argument 2 is no duration")
	}
	return t, d, nil
}

func timeAdd(_ *run, args []any) (any, error) {
	t, d, err := timeAndDuration(args)
	return t.Add(d).Format(time.RFC3339), err
}

func timeTruncate(_ *run, args []any) (any, error) {
	t, d, err := timeAndDuration(args)
	return t.Truncate(d).Format(time.RFC3339), err
}
