package snapshot

import (
	"fmt"
	"strconv"
	"strings"
)

// Format is a compiled format string with command operators, such as
// "%REQ(X-A?X-B):10%-%PROTOCOL%". Make one with ParseFormat.
type Format []FormatPart

// FormatPart is a literal or one operator.
type FormatPart struct {
	Literal string // when Op is OpLiteral
	Op      Operator
	Name    string // REQ, RESP, TRAILER: the field, in lower case; START_TIME: the layout, DefaultTimeLayout without one
	Alt     string // the field that is taken when Name is missing
	Max     int    // bytes; 0: no limit
}

// DefaultAccessLogFormat is Envoy's.
const DefaultAccessLogFormat = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" ` +
	`%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% ` +
	`"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"` + "\n"

// DefaultTimeLayout is what START_TIME gives without a layout, in UTC:
// 2026-01-02T03:04:05.678Z. %E3S are seconds with three decimals.
const DefaultTimeLayout = "%Y-%m-%dT%H:%M:%E3SZ"

// ParseFormat compiles s. "%%" is a percent sign. The error names the operator
// and the byte at which it starts.
func ParseFormat(s string) (Format, error) {
	var f Format
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			f = append(f, FormatPart{Literal: literal.String()})
			literal.Reset()
		}
	}
	for i := 0; i < len(s); {
		if s[i] != '%' {
			literal.WriteByte(s[i])
			i++
			continue
		}
		if strings.HasPrefix(s[i+1:], "%") {
			literal.WriteByte('%')
			i += 2
			continue
		}
		c, ok := cutCommand(s[i:])
		if !ok {
			return nil, fmt.Errorf("byte %d: %q is no operator: write %%NAME%%, %%NAME(what)%% or %%NAME(what):LENGTH%%, and %%%% for a percent sign", i, clip(s[i:]))
		}
		p, err := c.compile()
		if err != nil {
			return nil, fmt.Errorf("byte %d: %w", i, err)
		}
		i += c.size
		if c.max == "0" {
			continue // nothing can come of it
		}
		flush()
		f = append(f, p)
	}
	flush()
	return f, nil
}

// command is an operator as it is written.
type command struct {
	name, what, max string
	hasWhat, hasMax bool
	size            int // in the format, with both percent signs
}

// cutCommand reads the operator at the start of s. What stands in parentheses
// ends at the first one that is followed by the end of the operator.
func cutCommand(s string) (c command, ok bool) {
	end := 1
	for end < len(s) && (s[end] == '_' || 'A' <= s[end] && s[end] <= 'Z' || '0' <= s[end] && s[end] <= '9') {
		end++
	}
	c.name = s[1:end]
	if c.name == "" {
		return c, false
	}
	if strings.HasPrefix(s[end:], "(") {
		for at := end + 1; at < len(s) && s[at] != '\n'; at++ {
			if s[at] == ')' && c.finish(s, at+1) {
				c.what, c.hasWhat = s[end+1:at], true
				return c, true
			}
		}
		return c, false
	}
	ok = c.finish(s, end)
	return c, ok
}

// finish reads what follows the name and the parentheses.
func (c *command) finish(s string, at int) bool {
	rest := s[at:]
	if after, found := strings.CutPrefix(rest, ":"); found {
		digits := len(after) - len(strings.TrimLeft(after, "0123456789"))
		if digits == 0 {
			return false
		}
		c.max, c.hasMax, rest = strings.TrimLeft(after[:digits-1], "0")+after[digits-1:digits], true, after[digits:]
	}
	c.size = len(s) - len(rest) + 1
	return strings.HasPrefix(rest, "%")
}

func (c *command) compile() (p FormatPart, err error) {
	o, known := operators[c.name]
	switch {
	case !known:
		return p, fmt.Errorf("%%%s%% is not supported", c.name)
	case o.takes == takesNothing && c.what != "":
		return p, fmt.Errorf("%%%s%% takes nothing in parentheses", c.name)
	case o.takes == takesFields && c.what == "", o.takes == takesSomething && c.what == "":
		return p, fmt.Errorf("%%%s%% needs something in parentheses", c.name)
	case c.hasMax && !o.max:
		return p, fmt.Errorf("%%%s%% takes no length", c.name)
	}
	p.Op = o.op
	if c.hasMax {
		if p.Max, err = strconv.Atoi(c.max); err != nil {
			return p, fmt.Errorf("%%%s%%: the length %s is too large", c.name, c.max)
		}
	}
	switch {
	case o.takes == takesFields:
		name, alt, _ := strings.Cut(c.what, "?")
		if strings.Contains(alt, "?") {
			return p, fmt.Errorf("%%%s(%s)%% names more than one field to fall back to", c.name, c.what)
		}
		if !fieldName(name) || !fieldName(alt) {
			return p, fmt.Errorf("%%%s(%s)%% names what cannot be a field", c.name, c.what)
		}
		p.Name, p.Alt = lowerCase(name), lowerCase(alt)
	case o.op == OpStartTime:
		if breaksLine(c.what) {
			return p, fmt.Errorf("%%%s(%s)%% breaks the line: leave out %%n", c.name, c.what)
		}
		p.Name = c.what
		if p.Name == "" {
			p.Name = DefaultTimeLayout
		}
	}
	return p, nil
}

// fieldName reports whether s can be a field's name, of a pseudo-header field
// too, or is empty.
func fieldName(s string) bool {
	for _, c := range []byte(strings.TrimPrefix(s, ":")) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return true
}

// breaksLine reports whether a time layout holds %n, also with flags, a width or
// a modifier.
func breaksLine(layout string) bool {
	for {
		_, after, found := strings.Cut(layout, "%")
		if !found {
			return false
		}
		layout = after
		after = strings.TrimLeft(after, "-_0^#")
		after = strings.TrimLeft(after, "123456789")
		if strings.HasPrefix(after, "E") || strings.HasPrefix(after, "O") {
			after = after[1:]
		}
		if strings.HasPrefix(after, "n") {
			return true
		}
	}
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
