// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"strings"

	"sconce.dev/sconce/object"
)

// shellCommands splits a script into its simple commands and each into words, as
// a POSIX shell would: quotes, comments, redirections, here-documents, and
// variables whose value is known. What the shell works out when it runs is not
// known. It does not follow conditions and loops: what a script may run counts.
func shellCommands(script, why string, from object.Path, lookup func(name string) (value, why string)) [][]word {
	l := &lexer{src: script, why: why, from: from, lookup: lookup}
	for l.pos < len(l.src) {
		l.next()
	}
	l.endCommand()
	return l.commands
}

// lexer reads a script.
type lexer struct {
	src      string
	pos      int
	why      string // why a byte of the script is unknown
	from     object.Path
	lookup   func(name string) (value, why string)
	commands [][]word
	command  []word

	// The word that is being read.
	text   strings.Builder
	inWord bool
	quoted bool   // a part of it is in quotes
	lost   string // why it is not known from here on

	// target says what the next word is: of the command, or of a redirection.
	target   target
	heredocs []heredoc
}

type target uint8

const (
	ofCommand target = iota
	ofRedirection
	ofHeredoc
	ofIndentedHeredoc // tabs in front of its end are left out
)

// heredoc is a here-document that begins on the next line.
type heredoc struct {
	end  string
	tabs bool
}

// write adds to the word.
func (l *lexer) write(s string) {
	l.inWord = true
	if l.lost == "" {
		l.text.WriteString(s)
	}
}

// lose says that the word is not known from here on.
func (l *lexer) lose(why string) {
	l.inWord = true
	if l.lost == "" {
		l.lost = why
	}
}

// endWord adds the word to the command.
func (l *lexer) endWord() {
	if !l.inWord {
		return
	}
	w := word{text: l.text.String(), why: l.lost, from: l.from}
	switch l.target {
	case ofHeredoc, ofIndentedHeredoc:
		l.heredocs = append(l.heredocs, heredoc{w.text, l.target == ofIndentedHeredoc})
	case ofCommand:
		l.command = append(l.command, w)
	}
	l.dropWord()
	l.target = ofCommand
}

// dropWord forgets the word.
func (l *lexer) dropWord() {
	l.text.Reset()
	l.inWord, l.quoted, l.lost = false, false, ""
}

// endCommand ends the simple command.
func (l *lexer) endCommand() {
	l.endWord()
	l.target = ofCommand
	if len(l.command) > 0 {
		l.commands = append(l.commands, l.command)
		l.command = nil
	}
}

// next reads one thing of the script.
func (l *lexer) next() {
	c := l.src[l.pos]
	l.pos++
	switch c {
	case ' ', '\t', '\r':
		l.endWord()
	case '\n':
		l.endCommand()
		l.skipHeredocs()
	case ';', '|', '(', ')':
		l.endCommand()
	case '&':
		if strings.HasPrefix(l.src[l.pos:], ">") { // &> redirects both
			l.endWord()
			return
		}
		l.endCommand()
	case '<', '>':
		l.redirection(c)
	case '#':
		if l.inWord {
			l.write("#")
			return
		}
		l.until("\n")
	case '\\':
		l.escape("")
	case '\'':
		l.quoted = true
		l.write("")
		if s, ok := l.until("'"); ok {
			l.literal(s)
			l.pos++
		} else {
			l.lose("a quote is not closed")
		}
	case '"':
		l.double()
	case '$', '`':
		l.expansion(c, false)
	default:
		l.literal(l.src[l.pos-1 : l.pos])
	}
}

// literal adds text that stands for itself.
func (l *lexer) literal(s string) {
	before, _, ok := strings.Cut(s, string(rune(unknown)))
	l.write(before)
	if ok {
		l.lose(l.why)
	}
}

// until returns the text up to the next one of the end marks, and goes there;
// to the end of the script where none comes.
func (l *lexer) until(end string) (string, bool) {
	rest := l.src[l.pos:]
	i := strings.IndexAny(rest, end)
	if i < 0 {
		l.pos = len(l.src)
		return rest, false
	}
	l.pos += i
	return rest[:i], true
}

// escape reads what follows a backslash; within quotes, only some characters can
// be escaped.
func (l *lexer) escape(only string) {
	if l.pos == len(l.src) {
		l.write(`\`)
		return
	}
	c := l.src[l.pos : l.pos+1]
	l.pos++
	switch {
	case c == "\n": // the line goes on
	case only != "" && !strings.Contains(only, c):
		l.write(`\`)
		l.literal(c)
	default:
		l.literal(c)
	}
}

// double reads what stands between double quotes.
func (l *lexer) double() {
	l.quoted = true
	l.write("")
	for {
		s, ok := l.until("\"\\$`")
		l.literal(s)
		if !ok {
			l.lose("a quote is not closed")
			return
		}
		c := l.src[l.pos]
		l.pos++
		switch c {
		case '"':
			return
		case '\\':
			l.escape("$`\"\\")
		default:
			l.expansion(c, true)
		}
	}
}

// redirection reads <, >, >>, >&, >|, <>, << and <<-; a number in front of it is
// a part of it. Its target is the next word.
func (l *lexer) redirection(c byte) {
	if l.inWord && !l.quoted && strings.Trim(l.text.String(), "0123456789") == "" {
		l.dropWord()
	}
	l.endWord()
	rest := l.src[l.pos:]
	l.target = ofRedirection
	switch {
	case strings.HasPrefix(rest, "("): // the name of a pipe takes its place
		l.target = ofCommand
		l.lose("the shell works it out")
		l.pos++
		l.parentheses(1)
	case c == '<' && strings.HasPrefix(rest, "<<"): // a here-string
		l.pos += 2
	case c == '<' && strings.HasPrefix(rest, "<-"):
		l.target = ofIndentedHeredoc
		l.pos += 2
	case c == '<' && strings.HasPrefix(rest, "<"):
		l.target = ofHeredoc
		l.pos++
	case rest != "" && strings.ContainsRune("><&|", rune(rest[0])):
		l.pos++
	}
}

// skipHeredocs leaves out the here-documents that begin on this line.
func (l *lexer) skipHeredocs() {
	for _, h := range l.heredocs {
		for l.pos < len(l.src) {
			line, _ := l.until("\n")
			l.pos = min(l.pos+1, len(l.src))
			if h.tabs {
				line = strings.TrimLeft(line, "\t")
			}
			if line == h.end {
				break
			}
		}
	}
	l.heredocs = nil
}

// expansion reads what follows $ or a backquote.
func (l *lexer) expansion(c byte, quoted bool) {
	rest := l.src[l.pos:]
	switch {
	case c == '`':
		l.until("`")
		l.pos = min(l.pos+1, len(l.src))
		l.lose("the shell works it out")
	case strings.HasPrefix(rest, "("):
		l.pos++
		l.parentheses(1)
		l.lose("the shell works it out")
	case strings.HasPrefix(rest, "{"):
		l.pos++
		name, _ := l.until("}")
		l.pos = min(l.pos+1, len(l.src))
		if nameLength(name) == len(name) && name != "" {
			l.variable(name, quoted)
			return
		}
		l.lose("the shell works it out")
	case nameLength(rest) > 0:
		name := rest[:nameLength(rest)]
		l.pos += len(name)
		l.variable(name, quoted)
	case rest != "" && strings.IndexByte("0123456789@*#?-$!", rest[0]) >= 0:
		l.pos++
		l.lose("the shell works it out")
	default:
		l.write("$")
	}
}

// parentheses goes to the end of what stands in parentheses.
func (l *lexer) parentheses(depth int) {
	for depth > 0 {
		if _, ok := l.until("()"); !ok {
			return
		}
		if l.src[l.pos] == '(' {
			depth++
		} else {
			depth--
		}
		l.pos++
	}
}

// variable adds the value of a variable. Outside of quotes, blanks in it separate
// words.
func (l *lexer) variable(name string, quoted bool) {
	value, why := l.lookup(name)
	switch {
	case why != "":
		l.lose(why)
	case quoted:
		l.literal(value)
	default:
		for i, field := range strings.Fields(value) {
			if i > 0 {
				l.endWord()
			}
			l.literal(field)
		}
	}
}

// nameLength returns how much of the text is the name of a variable.
func nameLength(s string) int {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}
