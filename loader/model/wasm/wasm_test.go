package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// generous is for what must not be stopped on a busy machine.
var generous = Limits{Pages: 16, Timeout: time.Minute}

// short is for what must be.
var short = Limits{Pages: 16, Timeout: 20 * time.Millisecond}

func compile(t testing.TB, file string, inputs int, l Limits, tensors ...float64) *Module {
	t.Helper()
	code, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := Program{Code: code, Inputs: inputs, Limits: l}
	for _, v := range tensors {
		p.Tensors = append(p.Tensors, binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
	}
	m, err := Compile(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const (
	ratio  = "../../../examples/wasm/ratio.wasm"
	fickle = "testdata/fickle.wasm"
)

// The example computes what the kind ratio does, many rows in one call, also more
// than it had room for.
func TestExampleModule(t *testing.T) {
	m := compile(t, ratio, 2, generous, 1, 100) // bias, scale
	for _, n := range []int{1, 16, 17, 3000, 2} {
		rows, out := make([]float64, 2*n), make([]float64, n)
		for i := range rows {
			rows[i] = float64(i%7) - 1
		}
		if err := m.Eval(rows, out); err != nil {
			t.Fatal(err)
		}
		for i, got := range out {
			want := 1.0
			if uv, pv := rows[2*i], rows[2*i+1]; pv != 0 {
				want = float64(100*(uv/pv)) + 1
			}
			if math.Float64bits(got) != math.Float64bits(want) {
				t.Fatalf("%d rows, row %d: %v, want %v", n, i, got, want)
			}
		}
	}
	if err := m.Eval([]float64{1}, []float64{1}); err == nil {
		t.Error("a row that is too short was taken")
	}
}

// What a guest does wrong is the error of that call alone: the next one, and those
// at the same time, are right.
func TestGuestFailsAlone(t *testing.T) {
	m := compile(t, fickle, 1, generous)
	out := []float64{0}
	for v, want := range map[float64]error{2: ErrTrap, 3: ErrTrap, 4: ErrInput, 6: ErrTrap} {
		if err := m.Eval([]float64{v}, out); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", v, err, want)
		}
		if err := m.Eval([]float64{7}, out); err != nil || out[0] != 7 {
			t.Errorf("after %v: %v, %v", v, out, err)
		}
	}
	if err := m.Eval([]float64{5}, out); err != nil || !math.IsNaN(out[0]) {
		t.Errorf("NaN: %v, %v", out, err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			out := []float64{0}
			for j := range 50 {
				v := float64(10 + i + j)
				if err := m.Eval([]float64{v}, out); err != nil || out[0] != v {
					t.Errorf("%v: %v, %v", v, out, err)
				}
				if err := m.Eval([]float64{2}, out); !errors.Is(err, ErrTrap) {
					t.Errorf("a trap beside it: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// A loop without end is stopped, and after three in a row the module is left alone
// for a while: each took a worker's whole time.
func TestLoopIsStopped(t *testing.T) {
	m := compile(t, fickle, 1, short)
	out := []float64{0}
	for i := range strikes {
		if err := m.Eval([]float64{1}, out); !errors.Is(err, ErrTime) {
			t.Fatalf("loop %d: %v, want ErrTime", i, err)
		}
	}
	if err := m.Eval([]float64{7}, out); !errors.Is(err, ErrRest) {
		t.Fatalf("after %d loops: %v, want ErrRest", strikes, err)
	}
	m.till.Store(0) // the pause is over
	m.program.Limits = generous
	if err := m.Eval([]float64{7}, out); err != nil || out[0] != 7 {
		t.Errorf("after the pause: %v, %v", out, err)
	}
	if n := m.late.Load(); n != 0 {
		t.Errorf("%d strikes after an answer", n)
	}
}

// Whoever does not want an answer any more does not wait for the call's own limit, and
// that is no strike.
func TestCallEndsWithItsContext(t *testing.T) {
	m := compile(t, fickle, 1, Limits{Pages: 16, Timeout: time.Hour})
	gone := errors.New("nobody waits")
	for range strikes + 1 {
		ctx, cancel := context.WithCancelCause(t.Context())
		go cancel(gone) // before the call, or in its loop
		if err := m.EvalContext(ctx, []float64{1}, []float64{0}); !errors.Is(err, gone) {
			t.Fatalf("%v, want %v", err, gone)
		}
	}
	if n := m.late.Load(); n != 0 {
		t.Errorf("%d strikes", n)
	}
}

const (
	watHead  = `(module (memory (export "memory") 1) (func (export "quadnine_alloc") (param $n i32) (result i32) i32.const 1024) `
	watEval  = `(func (export "quadnine_eval") (param $a i32) (param $b i32) (param $c i32) (param $d i32) (result i32) i32.const 0) `
	watOther = `(func (export "quadnine_eval") (param $a i32) (result i32) i32.const 0) `
)

// What cannot run is known before anybody asks.
func TestCompileRefuses(t *testing.T) {
	for _, c := range []struct{ wat, want string }{
		{watHead + `)`, `no function "quadnine_eval"`},
		{watHead + watOther + `)`, "quadnine_eval has another type"},
		{strings.Replace(watHead, `(memory (export "memory") 1)`, "(memory 1)", 1) + watEval + `)`, `no memory called "memory"`},
		{strings.Replace(watHead, `"memory") 1)`, `"memory") 2000)`, 1) + watEval + `)`, "over limit of 16 pages"},
		{`(module (import "env" "clock") ` + watHead[len("(module"):] + watEval + `)`, `imports "env"."clock"`},
		{watHead + watEval + `(table 1))`, "table that may grow without end"},
		{watHead + watEval + `(table 1 100000000))`, "100000000 elements, at most 65536"},
		{watHead + watEval + `(func $f loop $l br $l end) (start $f))`, ErrTime.Error()},
		{watHead + watEval + `(func $f unreachable) (start $f))`, "start: trapped"},
		{strings.Replace(watHead, "1024", "1023", 1) + watEval + `)`, "quadnine_alloc(128) gave 1023"},
		{strings.Replace(watHead, "1024", "65528", 1) + watEval + `)`, "gave 65528, its memory has 65536 bytes"},
		{strings.Replace(watHead, "1024", "0", 1) + watEval + `)`, "gave 0"},
	} {
		m, err := Compile(t.Context(), Program{Code: assemble(t, c.wat), Inputs: 1, Limits: short})
		if err == nil || m != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got %v\nwant %s", c.wat, err, c.want)
		}
	}
	good := assemble(t, watHead+watEval+`(table 1 1))`)
	if _, err := Compile(t.Context(), Program{Code: good, Inputs: 1, Limits: generous}); err != nil {
		t.Error(err)
	}
	for n := range good {
		if _, err := check(good[:n]); err != nil && !errors.Is(err, errCut) && n >= 8 {
			t.Errorf("cut at %d: %v", n, err)
		}
		if _, err := Compile(t.Context(), Program{Code: good[:n], Inputs: 1, Limits: generous}); err == nil {
			t.Errorf("cut at %d: taken", n)
		}
	}
	p := Program{Code: mustRead(t, ratio), Inputs: 2, Limits: generous, Tensors: [][]byte{make([]byte, 4)}}
	if _, err := Compile(t.Context(), p); err == nil || !strings.Contains(err.Error(), "tensor 0: failed: quadnine_tensor returned 2") {
		t.Errorf("a tensor that it does not want: %v", err)
	}
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzCheck is of what is ours: the runtime has fuzz targets of its own.
func FuzzCheck(f *testing.F) {
	for _, name := range []string{ratio, fickle} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, h := range hostile {
		types, locals, body := h.body(2, 2)
		f.Add(functions(2, types, locals, body))
	}
	f.Fuzz(func(t *testing.T, code []byte) {
		bare, err := check(code)
		if err != nil {
			return
		}
		if again, err := check(bare); err != nil || !bytes.Equal(again, bare) || len(bare) > len(code) {
			t.Errorf("%d bytes became %d, which become %d, %v", len(code), len(bare), len(again), err)
		}
	})
}

// What fuzzing found is compiled too, and asked if it can be.
func TestKeptModules(t *testing.T) {
	files, err := filepath.Glob("testdata/fuzz/FuzzCheck/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(text), "\n")
		code, err := strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "[]byte("), ")"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m, err := Compile(t.Context(), Program{Code: []byte(code), Inputs: 1, Limits: short}); err == nil {
			_ = m.Eval([]float64{1}, []float64{0})
		}
	}
}

func BenchmarkEval(b *testing.B) {
	m := compile(b, ratio, 2, Limits{Pages: 16, Timeout: time.Second}, 1, 100)
	for _, n := range []int{1, 1000} {
		rows, out := make([]float64, 2*n), make([]float64, n)
		b.Run(map[int]string{1: "one", 1000: "thousand"}[n], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Eval(rows, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
