package wasm

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// What a module claims to have more of than its bytes, or so much that the runtime
// would take gigabytes or minutes for it, is refused before the runtime sees it.
func TestCheckRefuses(t *testing.T) {
	void := funcType(0, 0)
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0x0f}
	hugeIn := func(id byte, head ...byte) []byte { return bare(section(id, append(head, huge...))) }
	body := func(code ...byte) []byte { return functions(1, [][]byte{void}, 0, code) }
	many := func(id byte, n int, entry ...byte) []byte {
		return bare(section(id, slices.Repeat([][]byte{entry}, n)...))
	}
	for name, c := range map[string]struct {
		code []byte
		want string
	}{
		"types without bytes":             {append(bare([]byte{1, 6}), append(huge, 0x60)...), "section 1 says that it has 4294967295 entries"},
		"functions without bytes":         {append(bare([]byte{3, 6}), append(huge, 0)...), "section 3 says that it has 4294967295 entries"},
		"code without bytes":              {append(bare([]byte{10, 3}), 0xff, 1, 0), "section 10 says that it has 255 entries"},
		"parameters":                      {hugeIn(1, 0x60), "4294967295 parameters, at most 128"},
		"results":                         {bare(section(1, funcType(0, 17))), "17 results, at most 16"},
		"types":                           {many(1, maxEntries+1, 0x60, 0, 0), "65537 entries, at most 65536"},
		"a group of types":                {bare(section(1, []byte{0x4e, 1, 0x60, 0, 0})), "0x4e begins no type"},
		"a type of a reference to a type": {bare(section(1, []byte{0x60, 1, 0x63, 0, 0})), "0x63 is no type of a value"},
		"a table without end":             {bare(section(4, []byte{0x70, 0, 1})), "may grow without end"},
		"large tables":                    {many(4, 2, 0x70, 1, 0, 0x80, 0x80, 0x03), "98304 elements, at most 65536"},
		"globals":                         {many(6, maxEntries+1, 0x7f, 0, 0x41, 0, opEnd), "65537 entries, at most 65536"},
		"a long constant":                 {bare(section(6, []byte{0x7f, 0, 0x41, 0, 0x41, 0, 0x6a, opEnd})), "more than one instruction"},
		"exports":                         {many(7, maxEntries+1, 0, 0, 0), "65537 entries, at most 65536"},
		"elements of an active segment":   {hugeIn(9, 0, 0x41, 0, opEnd), "4294967295 elements, at most 65536"},
		"elements of a passive segment":   {hugeIn(9, 1, 0), "4294967295 elements, at most 65536"},
		"elements of another table":       {hugeIn(9, 2, 0, 0x41, 0, opEnd, 0), "4294967295 elements, at most 65536"},
		"declared elements":               {hugeIn(9, 3, 0), "4294967295 elements, at most 65536"},
		"expressions of elements":         {hugeIn(9, 4, 0x41, 0, opEnd), "4294967295 elements, at most 65536"},
		"expressions, passive":            {hugeIn(9, 5, 0x70), "4294967295 elements, at most 65536"},
		"expressions of another table":    {hugeIn(9, 6, 0, 0x41, 0, opEnd, 0x70), "4294967295 elements, at most 65536"},
		"expressions, declared":           {hugeIn(9, 7, 0x70), "4294967295 elements, at most 65536"},
		"a kind of segment":               {bare(section(9, []byte{8})), "8 is no kind of an element segment"},
		"elements of many segments":       {many(9, 9, append([]byte{1, 0, 0x80, 0x40}, make([]byte, 8192)...)...), "73728 elements, at most 65536"},
		"data without bytes":              {hugeIn(11, 1), errCut.Error()},
		"data of a memory without bytes":  {hugeIn(11, 2, 0, 0x41, 0, opEnd), errCut.Error()},
		"a kind of data":                  {bare(section(11, []byte{3})), "3 is no kind of a data segment"},
		"another section":                 {bare(section(13)), "section 13, which core 2.0 does not know"},
		"bytes behind the entries":        {bare([]byte{1, 2, 0, 0}), "section 1 has 1 bytes more than its entries"},
		"locals of a type": {
			bare(section(1, void), section(3, []byte{0}), section(10, slices.Concat([]byte{8, 1}, huge, []byte{0x7f, opEnd}))),
			"4294967295 parameters and locals, at most 8192",
		},
		"groups of locals":        {bare(section(1, void), section(3, []byte{0}), section(10, slices.Concat([]byte{6}, huge, []byte{opEnd}))), errCut.Error()},
		"locals of all functions": {functions(129, [][]byte{void}, maxVars, nil), "its functions have 1056768 parameters and locals"},
		"a table of labels":       {body(append([]byte{0x41, 0, opBrTable}, huge...)...), "a br_table says that it has 4294967295 labels"},
		"types of a select":       {body(append([]byte{opSelectTyped}, huge...)...), "a select says that it has 4294967295 types"},
		"a call of nothing":       {body(opCall, 1), "it has no function 1"},
		"a block of no type":      {body(opBlock, 1), "it has no type 1"},
		"a block with parameters": {functions(1, [][]byte{void, funcType(17, 0)}, 0, []byte{opBlock, 1, opEnd}), "a block has 17 parameters"},
		"another instruction":     {body(0x12, 0), "an instruction 0x12, which core 2.0 does not know"},
		"another vector":          {body(opVector, 0x80, 2), "an instruction 0xfd 0x80 0x2"},
		"a number in two ways":    {body(opMore, 0x8b, 0, 0), "an instruction 0xfc 0x8b"},
		"code of no function":     {bare(section(10, []byte{2, 0, opEnd})), "code for more than its 0 functions"},
		"steps":                   {body(rep(maxSteps, 0x01)...), "a function has 131073 steps, at most 131072"},
		"all steps":               {functions(9, [][]byte{void}, 0, rep(maxSteps-1, 0x01)), "its functions have 1179648 steps"},
		"branches":                {body(slices.Concat(rep(maxBranches+1, opLoop, 0x40), rep(maxBranches+1, opEnd))...), "a function has 4097 branches"},
		"branches over locals":    {functions(1, [][]byte{void}, maxVars, slices.Concat(rep(65, opLoop, 0x40), rep(65, opEnd))), "532480 as the product of its branches and its variables"},
		"branches over values": {
			body(slices.Concat(rep(10000, 0x41, 0), rep(2048, opLoop, 0x40), rep(2048, 0x41, 0, opBrIf, 0, opEnd), rep(10000, 0x1a))...),
			"115478528 as the product of its branches and its instructions",
		},
		"branches of all": {functions(3, [][]byte{void}, 0, slices.Concat(rep(4000, opLoop, 0x40), rep(4000, opEnd))), "48000000 as the sum"},
	} {
		if got, err := check(c.code); err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// Custom sections change nothing, and the runtime makes room for what the one with
// names says of itself.
func TestCustomSectionsAreLeftOut(t *testing.T) {
	names := slices.Concat(text("name"), []byte{1, 6}, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}) // 2^32-1 names of functions
	custom := slices.Concat([]byte{0}, uleb(uint64(len(names))), names)
	code := mustRead(t, ratio)
	with := slices.Concat(code[:8], custom, code[8:], custom)
	got, err := check(with)
	if err != nil || !bytes.Equal(got, code) {
		t.Errorf("%d bytes, %v, want the %d without them", len(got), err, len(code))
	}
	if _, err := Compile(t.Context(), Program{Code: with, Inputs: 2, Limits: generous}); err != nil {
		t.Error(err)
	}
}
