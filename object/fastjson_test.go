// SPDX-License-Identifier: Apache-2.0

package object_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kjson "sigs.k8s.io/json"

	"sconce.dev/sconce/object"
)

// jsonSeeds are what JSON is told from what only resembles it by.
var jsonSeeds = []string{
	`{}`, `[]`, `null`, `true`, `false`, `0`, `-0`, `1`, `-1.5e3`, `1E2`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775809`,
	`1e400`, `01`, `-`, `1.`, `.5`, `1e`, `+1`, `0x1`, `NaN`, `tru`, `nul`, `truex`, `"a`, `"`, `"\`, `"\u12"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ud83dx"`, `"\ud83d\u0041"`, `"\ude00\ud83d"`,
	`"\"\\\/\b\f\n\r\t"`, `"\x"`, "\"\n\"", "\"\x7f\"", `"é"`, "\"\xff\"", "\x00", `"\u0000"`, "\xef\xbb\xbf{}",
	`{"a":1,"a":2}`, `{"a":{"b":[1,2,{"c":null}]}}`, `{"a" : 1 , "b":[ ] }`, `{"a":1,}`, `[1,]`, `[,1]`, `[1 2]`, `{"a"}`, `{"a":}`, `{1:2}`, `{`, `[`, `{"a"`, `{"a":1`, `[1`, `{} {}`, `{}x`, ` {} `, "\v{}", ``, ` `,
	`{"<<":1}`, `{"<<":1,"<<":2}`, `{"\u0061":1,"a":2}`, `{"":1}`, `1.0`, `1.5`, `-0.0`, `123456789012345678901234567890`,
}

// agree says how ReadJSON and the two readers that it replaces differ on a text.
func agree(data []byte) error {
	got, err := object.ReadJSON(data, object.MaxNodes)
	docs, slowErr := object.ParseJSON(data)
	slow := slowErr == nil && len(docs) == 1 && !bytes.HasPrefix(data, []byte("\xef\xbb\xbf"))
	if slow != (err == nil) {
		return fmt.Errorf("ReadJSON says %w, ParseJSON %w of %d documents", err, slowErr, len(docs))
	}
	if err != nil {
		var syntax *object.SyntaxError
		if !errors.As(err, &syntax) || syntax.Line < 1 || syntax.Col < 1 {
			return fmt.Errorf("this error has no place: %w", err)
		}
		return nil
	}
	if diff := cmp.Diff(docs[0].Any(), got.Any()); diff != "" {
		return fmt.Errorf("ParseJSON (-), ReadJSON (+):\n%s", diff)
	}
	var server any
	strict, err := kjson.UnmarshalStrict(data, &server)
	if err != nil || len(strict) > 0 {
		return fmt.Errorf("the API server's reader refuses it: %w", errors.Join(append(strict, err)...))
	}
	if diff := cmp.Diff(server, got.Any()); diff != "" {
		return fmt.Errorf("the API server's reader (-), ReadJSON (+):\n%s", diff)
	}
	if !json.Valid(data) {
		return errors.New("encoding/json says that it is not valid")
	}
	return nil
}

func TestReadJSON(t *testing.T) {
	for _, seed := range jsonSeeds {
		for _, text := range []string{seed, "[" + seed + "]", `{"k":` + seed + `,"l":1}`} {
			if err := agree([]byte(text)); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

func FuzzReadJSON(f *testing.F) {
	for _, seed := range jsonSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := agree(data); err != nil {
			t.Errorf("%q: %v", data, err)
		}
	})
}

func TestReadJSONLimits(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct{ name, text, want string }{
		{"as deep as may be", deep(object.MaxDepth + 1), ""},
		{"too deep", deep(object.MaxDepth + 2), "nested deeper than 500 levels"},
		{"very deep and open", strings.Repeat(`{"a":`, 1_000_000), "nested deeper than 500 levels"},
		{"as many as may be", "[" + strings.Repeat("1,", 98) + "1]", ""},
		{"too many", "[" + strings.Repeat("1,", 99) + "1]", "more than 100 values"},
		{"place", "{\n  \"a\": x}", "'x' where a value was expected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := object.MaxNodes
			if strings.Contains(c.name, "many") {
				limit = 100
			}
			_, err := object.ReadJSON([]byte(c.text), limit)
			var syntax *object.SyntaxError
			switch {
			case c.want == "" && err != nil:
				t.Errorf("error %v", err)
			case c.want != "" && (!errors.As(err, &syntax) || syntax.Msg != c.want):
				t.Errorf("error %v; want %s", err, c.want)
			case c.name == "place" && (syntax.Line != 2 || syntax.Col != 8):
				t.Errorf("place %d:%d; want 2:8", syntax.Line, syntax.Col)
			}
		})
	}
}
