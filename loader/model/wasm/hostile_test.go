package wasm

import (
	"bytes"
	"context"
	"runtime"
	"runtime/debug"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
)

func rep(n int, p ...byte) []byte { return bytes.Repeat(p, n) }

func section(id byte, entries ...[]byte) []byte {
	body := vec(entries)
	return slices.Concat([]byte{id}, uleb(uint64(len(body))), body)
}

func bare(sections ...[]byte) []byte { return append([]byte(magic), slices.Concat(sections...)...) }

func funcType(params, results int) []byte {
	return slices.Concat([]byte{0x60}, uleb(uint64(params)), rep(params, 0x7f), uleb(uint64(results)), rep(results, 0x7f))
}

// functions makes a module of the same function many times, whose type is number 0.
func functions(times int, types [][]byte, locals int, body []byte) []byte {
	code := []byte{0}
	if locals > 0 {
		code = slices.Concat([]byte{1}, uleb(uint64(locals)), []byte{0x7f})
	}
	code = slices.Concat(code, body, []byte{opEnd})
	code = append(uleb(uint64(len(code))), code...)
	return bare(section(sectionType, types...), section(sectionFunction, slices.Repeat([][]byte{{0}}, times)...),
		section(sectionMemory, []byte{1, 1, 1}), section(sectionCode, slices.Repeat([][]byte{code}, times)...))
}

// hostile are functions that are slow to compile for their size. n is how large, k how
// many values.
var hostile = map[string]struct {
	k    []int
	body func(n, k int) (types [][]byte, locals int, body []byte)
}{
	"loops": {[]int{0}, func(n, _ int) ([][]byte, int, []byte) {
		return [][]byte{funcType(0, 0)}, 0, slices.Concat(rep(n, opLoop, 0x40), rep(n, opEnd))
	}},
	"ifs": {[]int{0}, func(n, _ int) ([][]byte, int, []byte) {
		return [][]byte{funcType(0, 0)}, 0, slices.Concat(rep(n, 0x41, 0, opIf, 0x40), rep(n, opEnd))
	}},
	"nested loops over locals": {[]int{100, 1000, maxVars}, func(n, k int) ([][]byte, int, []byte) {
		b := rep(n, opLoop, 0x40)
		for i := range uint64(k) {
			b = append(b, slices.Concat([]byte{0x20}, uleb(i), []byte{0x41, 1, 0x6a, 0x21}, uleb(i))...)
		}
		return [][]byte{funcType(0, 0)}, k, slices.Concat(b, []byte{0x41, 0, opBrIf, 0}, rep(n, opEnd))
	}},
	"loops in a row over locals": {[]int{25, 100, 500, 2000}, func(n, k int) ([][]byte, int, []byte) {
		var b []byte
		for i := range n {
			at := uleb(uint64(i % k))
			b = append(b, slices.Concat([]byte{opLoop, 0x40, 0x20}, at, []byte{0x41, 1, 0x6a, 0x21}, at, []byte{0x20}, at, []byte{opBrIf, 0, opEnd})...)
		}
		return [][]byte{funcType(0, 0)}, k, b
	}},
	"branches over locals": {[]int{25, 100, 500, 2000}, func(n, k int) ([][]byte, int, []byte) {
		b := []byte{opBlock, 0x40}
		for i := range n {
			at := uleb(uint64(i % k))
			b = append(b, slices.Concat([]byte{0x20}, at, []byte{0x41, 1, 0x6a, 0x22}, at, []byte{opBrIf, 0})...)
		}
		b = append(b, opEnd)
		for i := range uint64(k) {
			b = append(b, slices.Concat([]byte{0x20}, uleb(i), []byte{0x1a})...)
		}
		return [][]byte{funcType(0, 0)}, k, b
	}},
	"choices over locals": {[]int{25, 100, 500, 2000}, func(n, k int) ([][]byte, int, []byte) {
		var b []byte
		for i := range n {
			at := uleb(uint64(i % k))
			b = append(b, slices.Concat([]byte{0x41, 0, 0x28, 2, 0, opIf, 0x40, 0x41, 1, 0x21}, at, []byte{opElse, 0x41, 2, 0x21}, at, []byte{opEnd})...)
		}
		for i := range uint64(k) {
			b = append(b, slices.Concat([]byte{0x20}, uleb(i), []byte{0x1a})...)
		}
		return [][]byte{funcType(0, 0)}, k, b
	}},
	"many live values": {[]int{0}, func(n, _ int) ([][]byte, int, []byte) {
		return [][]byte{funcType(0, 0)}, 0, slices.Concat(rep(n, 0x41, 0, 0x28, 2, 0), rep(n-1, 0x6a), []byte{0x1a})
	}},
	"values live over loops": {[]int{100, 1000, 10000}, func(n, k int) ([][]byte, int, []byte) {
		return [][]byte{funcType(0, 0)}, 0, slices.Concat(rep(k, 0x41, 0, 0x28, 2, 0), rep(n, opLoop, 0x40),
			rep(n, 0x41, 0, 0x28, 2, 0, opBrIf, 0, opEnd), rep(k-1, 0x6a), []byte{0x1a})
	}},
	"one table of labels": {[]int{1, 100, 1000}, func(n, k int) ([][]byte, int, []byte) {
		b := slices.Concat(rep(k, opBlock, 0x40), []byte{0x41, 0, 0x28, 2, 0, opBrTable}, uleb(uint64(n)))
		for i := range n + 1 {
			b = append(b, uleb(uint64(i%k))...)
		}
		return [][]byte{funcType(0, 0)}, 0, slices.Concat(b, rep(k, opEnd))
	}},
	"many tables of labels": {[]int{2}, func(n, k int) ([][]byte, int, []byte) {
		return [][]byte{funcType(0, 0)}, 0, slices.Concat(rep(k, opBlock, 0x40), rep(n, opBlock, 0x40, 0x41, 0, 0x28, 2, 0, opBrTable, 2, 0, 1, 1, opEnd), rep(k, opEnd))
	}},
	"a table with values": {[]int{maxResults}, func(n, k int) ([][]byte, int, []byte) {
		return [][]byte{funcType(0, 0), funcType(0, k)}, 0, slices.Concat([]byte{opBlock, 1}, rep(k, 0x41, 0),
			[]byte{0x41, 0, 0x28, 2, 0, opBrTable}, uleb(uint64(n)), make([]byte, n+1), []byte{opEnd}, rep(k, 0x1a))
	}},
	"calls with values": {[]int{maxResults}, func(n, k int) ([][]byte, int, []byte) {
		return [][]byte{funcType(k, k)}, 0, slices.Concat(rep(k, 0x41, 0), rep(n, opCall, 0))
	}},
	"calls with parameters": {[]int{maxParams}, func(n, k int) ([][]byte, int, []byte) {
		return [][]byte{funcType(k, 0)}, 0, bytes.Repeat(slices.Concat(rep(k, 0x41, 0), []byte{opCall, 0}), n)
	}},
	"blocks with values": {[]int{maxResults}, func(n, k int) ([][]byte, int, []byte) {
		return [][]byte{funcType(0, 0), funcType(k, k)}, 0, slices.Concat(rep(k, 0x41, 0), rep(n, opLoop, 1, opEnd), rep(k, 0x1a))
	}},
	"loads":       {[]int{0}, straight(0x41, 0, 0x28, 2, 0, 0x1a)},
	"stores":      {[]int{0}, straight(0x41, 0, 0x41, 0, 0x36, 2, 0)},
	"fills":       {[]int{0}, straight(0x41, 0, 0x41, 0, 0x41, 0, opMore, 11, 0)},
	"copies":      {[]int{0}, straight(0x41, 0, 0x41, 0, 0x41, 0, opMore, 10, 0, 0)},
	"truncations": {[]int{0}, straight(0x43, 0, 0, 0, 0, 0xa8, 0x1a)},
	"saturations": {[]int{0}, straight(0x43, 0, 0, 0, 0, opMore, 0, 0x1a)},
	"divisions":   {[]int{0}, straight(0x41, 0, 0x28, 2, 0, 0x41, 0, 0x28, 2, 0, 0x6d, 0x1a)},
	"shuffles":    {[]int{0}, straight(0x41, 0, opVector, 0, 0, 0, 0x41, 0, opVector, 0, 0, 0, opVector, 13, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x1a)},
	"growths":     {[]int{0}, straight(0x41, 0, 0x40, 0, 0x1a)},
	"nothing":     {[]int{0}, straight(0x01)},
	"empty":       {[]int{0}, straight()},
	"locals":      {[]int{maxVars}, func(_, k int) ([][]byte, int, []byte) { return [][]byte{funcType(0, 0)}, k, nil }},
	"calls":       {[]int{0}, straight(opCall, 0)},
}

func straight(code ...byte) func(n, k int) ([][]byte, int, []byte) {
	return func(n, _ int) ([][]byte, int, []byte) { return [][]byte{funcType(0, 0)}, 0, rep(n, code...) }
}

// largest is the largest module of a hostile kind that is taken: the largest
// function, as often as it may be there.
func largest(tb testing.TB, kind string, k int) (code []byte, n, times int) {
	tb.Helper()
	fits := func(code []byte) bool {
		_, err := check(code)
		return err == nil && len(code) <= maxCode
	}
	n = sort.Search(maxSteps, func(n int) bool {
		types, locals, body := hostile[kind].body(n+1, k)
		return !fits(functions(1, types, locals, body))
	})
	if n == 0 {
		tb.Fatalf("%s, %d: not even one is taken", kind, k)
	}
	n--
	types, locals, body := hostile[kind].body(n+1, k)
	times = sort.Search(min(4096, maxCode/(len(body)+8)), func(times int) bool { return !fits(functions(times+1, types, locals, body)) })
	return functions(times, types, locals, body), n + 1, times
}

// BenchmarkHostile compiles the worst that is taken. Decision record 34 has the
// figures: go test -run '^$' -bench Hostile -benchtime 1x
func BenchmarkHostile(b *testing.B) {
	for kind, h := range hostile {
		for _, k := range h.k {
			b.Run(strings.ReplaceAll(kind, " ", "_")+"/"+strconv.Itoa(k), func(b *testing.B) {
				code, n, times := largest(b, kind, k)
				debug.FreeOSMemory()
				stop, peak := watchMemory()
				b.ResetTimer()
				for b.Loop() {
					r := wazero.NewRuntimeWithConfig(context.Background(), wazero.NewRuntimeConfig().WithMemoryLimitPages(64).WithCloseOnContextDone(true).WithDebugInfoEnabled(false))
					if _, err := r.CompileModule(b.Context(), code); err != nil {
						b.Fatal(err)
					}
					_ = r.Close(b.Context())
				}
				close(stop)
				b.ReportMetric(float64(<-peak)/1e6, "peak-MB")
				b.ReportMetric(float64(len(code)), "bytes")
				b.ReportMetric(float64(n), "n")
				b.ReportMetric(float64(times), "functions")
			})
		}
	}
}

// watchMemory tells the most heap there was until stop is closed.
func watchMemory() (stop chan struct{}, peak chan uint64) {
	stop, peak = make(chan struct{}), make(chan uint64, 1)
	go func() {
		var most uint64
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-stop:
				peak <- most
				return
			case <-tick.C:
				var s runtime.MemStats
				runtime.ReadMemStats(&s)
				most = max(most, s.HeapSys-s.HeapReleased)
			}
		}
	}()
	return stop, peak
}
