package wasm

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// assemble makes a module of the part of the text format that our modules are
// written in: functions, globals, one memory and one table, an import and a start
// function; instructions one after the other, never folded.
func assemble(t testing.TB, text string) []byte {
	t.Helper()
	a := &assembler{functions: map[string]int{}, globals: map[string]int{}}
	defer func() {
		if p := recover(); p != nil {
			t.Fatalf("assembling: %v", p)
		}
	}()
	return a.module(parseForms(text))
}

// form is a list, or a word.
type form struct {
	word string
	list []form
}

func (f form) head() string {
	if len(f.list) == 0 {
		return ""
	}
	return f.list[0].word
}

var watToken = regexp.MustCompile(`;;[^\n]*|"[^"]*"|[()]|[^\s()";]+`)

func parseForms(text string) form {
	stack := []form{{}}
	for _, tok := range watToken.FindAllString(text, -1) {
		last := len(stack) - 1
		switch {
		case strings.HasPrefix(tok, ";;"):
		case tok == "(":
			stack = append(stack, form{})
		case tok == ")":
			stack[last-1].list = append(stack[last-1].list, stack[last])
			stack = stack[:last]
		default:
			stack[last].list = append(stack[last].list, form{word: tok})
		}
	}
	return stack[0].list[0]
}

type assembler struct{ functions, globals map[string]int }

func uleb(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func sleb(n int64) (out []byte) {
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 && b&0x40 == 0 || n == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

func vec(items [][]byte) []byte { return append(uleb(uint64(len(items))), slices.Concat(items...)...) }

func text(s string) []byte {
	s = strings.Trim(s, `"`)
	return append(uleb(uint64(len(s))), s...)
}

var watTypes = map[string]byte{"i32": 0x7f, "i64": 0x7e, "f64": 0x7c}

func (a *assembler) module(m form) []byte {
	sections := make([][][]byte, 11)
	add := func(id int, item ...[]byte) { sections[id] = append(sections[id], slices.Concat(item...)) }
	defined := 0
	for _, f := range m.list[1:] { // names first: functions call each other
		switch f.head() {
		case "func", "import":
			if n := f.list[1].word; strings.HasPrefix(n, "$") {
				a.functions[n] = defined
			}
			defined++
		case "global":
			a.globals[f.list[1].word] = len(a.globals)
		}
	}
	defined = 0
	for _, f := range m.list[1:] {
		switch f.head() {
		case "func":
			a.function(f, defined, add)
			defined++
		case "import":
			add(1, []byte{0x60, 0, 0})
			add(2, text(f.list[1].word), text(f.list[2].word), []byte{0}, uleb(uint64(len(sections[1])-1)))
			defined++
		case "global":
			add(6, []byte{watTypes[f.list[2].list[1].word], 1}, a.instructions(f.list[3].list, nil), []byte{0x0b})
		case "memory", "table":
			var limits []uint64
			for _, x := range f.list[1:] {
				if n, err := strconv.ParseUint(x.word, 0, 32); err == nil {
					limits = append(limits, n)
				} else if x.head() == "export" {
					add(7, text(x.list[1].word), []byte{2}, uleb(0))
				}
			}
			item := append([]byte{byte(len(limits) - 1)}, uleb(limits[0])...)
			if len(limits) == 2 {
				item = append(item, uleb(limits[1])...)
			}
			if f.head() == "memory" {
				add(5, item)
			} else {
				add(4, []byte{0x70}, item)
			}
		case "start":
			add(8, uleb(uint64(a.functions[f.list[1].word])))
		}
	}
	out := []byte("\x00asm\x01\x00\x00\x00")
	for id, items := range sections {
		body := vec(items)
		if id == 8 && len(items) > 0 {
			body = items[0]
		}
		if len(items) > 0 {
			out = append(append(append(out, byte(id)), uleb(uint64(len(body)))...), body...)
		}
	}
	return out
}

// function adds a type, a function, its exports and its code.
func (a *assembler) function(f form, index int, add func(int, ...[]byte)) {
	var params, results, locals []byte
	names := map[string]int{}
	body := f.list[1:]
	for ; len(body) > 0; body = body[1:] {
		x := body[0]
		switch x.head() {
		case "export":
			add(7, text(x.list[1].word), []byte{0}, uleb(uint64(index)))
			continue
		case "param", "local":
			names[x.list[1].word] = len(names)
			if x.head() == "param" {
				params = append(params, watTypes[x.list[2].word])
			} else {
				locals = append(locals, watTypes[x.list[2].word])
			}
			continue
		case "result":
			results = append(results, watTypes[x.list[1].word])
			continue
		}
		if !strings.HasPrefix(x.word, "$") || len(body) < len(f.list)-1 {
			break
		}
	}
	add(1, []byte{0x60}, uleb(uint64(len(params))), params, uleb(uint64(len(results))), results)
	add(3, uleb(uint64(index)))
	var groups [][]byte
	for _, l := range locals {
		groups = append(groups, []byte{1, l})
	}
	code := slices.Concat(vec(groups), a.instructions(body, names), []byte{0x0b})
	add(10, uleb(uint64(len(code))), code)
}

var opcodes = map[string][]byte{
	"unreachable": {0x00}, "return": {0x0f}, "else": {0x05}, "drop": {0x1a}, "memory.size": {0x3f, 0}, "memory.grow": {0x40, 0},
	"i32.eqz": {0x45}, "i32.ne": {0x47}, "i32.le_u": {0x4d}, "f64.eq": {0x61}, "f64.ne": {0x62}, "i32.add": {0x6a}, "i32.sub": {0x6b},
	"i32.and": {0x71}, "i32.shl": {0x74}, "i32.shr_u": {0x76}, "f64.add": {0xa0}, "f64.mul": {0xa2}, "f64.div": {0xa3}, "f64.convert_i32_u": {0xb8},
}

// instructions encodes words; locals are the function's.
func (a *assembler) instructions(words []form, locals map[string]int) (out []byte) {
	var labels []string
	for i := 0; i < len(words); i++ {
		w := words[i].word
		operand := func() string { i++; return words[i].word }
		index := func(op byte, of map[string]int) []byte {
			name := operand()
			n, ok := of[name]
			if !ok {
				panic(name + " is not known")
			}
			return append([]byte{op}, uleb(uint64(n))...)
		}
		switch w {
		case "local.get":
			out = append(out, index(0x20, locals)...)
		case "local.set":
			out = append(out, index(0x21, locals)...)
		case "global.get":
			out = append(out, index(0x23, a.globals)...)
		case "global.set":
			out = append(out, index(0x24, a.globals)...)
		case "call":
			out = append(out, index(0x10, a.functions)...)
		case "i32.const":
			n, err := strconv.ParseInt(operand(), 0, 64)
			if err != nil {
				panic(err)
			}
			out = append(append(out, 0x41), sleb(n)...)
		case "f64.const":
			v, err := strconv.ParseFloat(operand(), 64)
			if err != nil {
				panic(err)
			}
			out = binary.LittleEndian.AppendUint64(append(out, 0x44), math.Float64bits(v))
		case "f64.load", "f64.store":
			op, offset := byte(0x2b), uint64(0)
			if w == "f64.store" {
				op = 0x39
			}
			if i+1 < len(words) && strings.HasPrefix(words[i+1].word, "offset=") {
				offset, _ = strconv.ParseUint(operand()[len("offset="):], 10, 32)
			}
			out = append(append(out, op, 3), uleb(offset)...)
		case "block", "loop", "if":
			out = append(out, map[string]byte{"block": 2, "loop": 3, "if": 4}[w], 0x40)
			label := ""
			if i+1 < len(words) && strings.HasPrefix(words[i+1].word, "$") {
				label = operand()
			}
			labels = append(labels, label)
		case "end":
			out, labels = append(out, 0x0b), labels[:len(labels)-1]
		case "br", "br_if":
			label := operand()
			depth := len(labels) - 1 - slices.Index(labels, label)
			out = append(append(out, map[string]byte{"br": 0x0c, "br_if": 0x0d}[w]), uleb(uint64(depth))...)
		default:
			op, ok := opcodes[w]
			if !ok {
				panic(fmt.Sprintf("no instruction %q", w))
			}
			out = append(out, op...)
		}
	}
	return out
}

// TestModulesAreTheirText: a .wasm beside a .wat is what it says. UPDATE=1 writes
// it.
func TestModulesAreTheirText(t *testing.T) {
	for _, name := range []string{"../../../examples/wasm/ratio", "testdata/fickle", "testdata/rowcount"} {
		source, err := os.ReadFile(name + ".wat")
		if err != nil {
			t.Fatal(err)
		}
		want := assemble(t, string(source))
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(name+".wasm", want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(name + ".wasm")
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s.wasm is not %s.wat (%v): run UPDATE=1 go test ./loader/model/wasm", name, name, err)
		}
	}
}
