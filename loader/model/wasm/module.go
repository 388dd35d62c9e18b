package wasm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// PageSize is the size of a page of a module's memory, bytes.
const PageSize = 64 << 10

// Limits are what a module may take.
type Limits struct {
	Pages   uint32        // of memory, for each call under way
	Timeout time.Duration // of one call, on the wall
}

// Program is a module and what it is run with.
type Program struct {
	Code    []byte
	Tensors [][]byte // copied into each instance's memory, in this order
	Inputs  int      // numbers in a row
	Rows    int      // the most rows of one call that its memory must have room for; 0: one
	Limits  Limits
}

// What can go wrong in a call.
var (
	ErrTime  = errors.New("stopped: it took too long")
	ErrTrap  = errors.New("trapped")
	ErrCode  = errors.New("failed")                 // it returned a code that is not 0
	ErrInput = errors.New("input refused by it")    // code 1
	ErrRest  = errors.New("left alone for a while") // it took too long too often
)

// After strikes calls in a row that took too long the module is not called for
// rest: each holds a worker for its whole time, which others wait for.
const (
	strikes = 3
	rest    = time.Second
)

// refusedInput is the code by which a module says that a row is not its fault.
const refusedInput = 1

// maxSpare bounds the instances that wait for a call.
const maxSpare = 64

// Module is a compiled module. It need not be closed: what it takes, machine code
// too, is the garbage collector's once nobody has the Module any more. Closing the
// runtime instead would take the code away from a call under way.
type Module struct {
	program Program
	runtime wazero.Runtime
	code    wazero.CompiledModule

	mu    sync.Mutex
	spare []*instance // guarded by mu

	late atomic.Int32 // calls in a row that took too long
	till atomic.Int64 // of clock: not called before
}

// Compile checks and compiles a program and makes its first instance, so that
// what cannot run is known before anybody asks. It keeps p.Tensors and copies what
// it needs of p.Code.
func Compile(ctx context.Context, p Program) (*Module, error) {
	if err := p.Fits(); err != nil {
		return nil, err
	}
	code, err := check(p.Code)
	if err != nil {
		return nil, fmt.Errorf("wasm: %w", err)
	}
	cfg := wazero.NewRuntimeConfig().WithMemoryLimitPages(p.Limits.Pages).WithCloseOnContextDone(true).WithDebugInfoEnabled(false)
	m := &Module{program: p, runtime: wazero.NewRuntimeWithConfig(ctx, cfg)}
	m.program.Code = nil
	if m.code, err = m.runtime.CompileModule(ctx, code); err == nil {
		err = m.exports()
	}
	var first *instance
	if err == nil {
		first, err = m.first(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wasm: %w", err), m.runtime.Close(ctx))
	}
	m.spare = append(m.spare, first)
	return m, nil
}

// startFor bounds the first start, which nobody waits for and which is made at the
// lowest priority: a call's limit would refuse good modules on a busy machine.
const startFor = 3 * time.Second

// first makes the first instance.
func (m *Module) first(ctx context.Context) (*instance, error) {
	ctx, cancel := context.WithTimeout(ctx, max(startFor, m.program.Limits.Timeout))
	defer cancel()
	in, err := m.instantiate(ctx)
	if err == nil && m.program.Rows > in.room {
		if err = in.grow(ctx, m.program.Rows); err != nil {
			err = fmt.Errorf("room for %d rows: %w", m.program.Rows, err)
		}
	}
	return in, err
}

// The exports, see docs/wasm.md.
const (
	exportMemory = "memory"
	exportAlloc  = "quadnine_alloc"
	exportTensor = "quadnine_tensor"
	exportEval   = "quadnine_eval"
)

// exports checks what the module offers.
func (m *Module) exports() error {
	if m.code.ExportedMemories()[exportMemory] == nil {
		return fmt.Errorf("it exports no memory called %q", exportMemory)
	}
	i32 := api.ValueTypeI32
	want := map[string]int{exportAlloc: 1, exportEval: 4}
	if len(m.program.Tensors) > 0 {
		want[exportTensor] = 3
	}
	functions := m.code.ExportedFunctions()
	for name, params := range want {
		f := functions[name]
		if f == nil {
			return fmt.Errorf("it exports no function %q", name)
		}
		if !slices.Equal(f.ParamTypes(), slices.Repeat([]api.ValueType{i32}, params)) || !slices.Equal(f.ResultTypes(), []api.ValueType{i32}) {
			return fmt.Errorf("%s has another type: want %d times i32, and i32 as its result", name, params)
		}
	}
	return nil
}

// Eval computes out[i] from row i of rows, which has len(rows)/len(out) numbers
// each, all in one call. The errors are ErrTime, ErrTrap, ErrCode, ErrInput and
// ErrRest; out is then not to be used.
func (m *Module) Eval(rows, out []float64) error {
	return m.EvalContext(context.Background(), rows, out)
}

// EvalContext is Eval that ends when ctx does: its error is then ctx's cause.
func (m *Module) EvalContext(ctx context.Context, rows, out []float64) error {
	if len(out) == 0 || len(rows) != len(out)*m.program.Inputs {
		return fmt.Errorf("wasm: %d numbers are no %d rows of %d", len(rows), len(out), m.program.Inputs)
	}
	if clock() < m.till.Load() {
		return fmt.Errorf("wasm: %w: %d calls in a row took over %v", ErrRest, strikes, m.program.Limits.Timeout)
	}
	in := m.take()
	call, cancel := context.WithTimeout(ctx, m.program.Limits.Timeout)
	defer cancel()
	var err error
	if in == nil {
		in, err = m.instantiate(call)
	}
	if in != nil {
		err = in.eval(call, rows, out)
		m.give(in, err)
	}
	if ctx.Err() != nil { // whatever it was stopped in, it is not its fault
		return fmt.Errorf("wasm: %w", context.Cause(ctx))
	}
	return m.note(err)
}

// take returns an instance that waits, or nil.
func (m *Module) take() *instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.spare)
	if n == 0 {
		return nil
	}
	in := m.spare[n-1]
	m.spare = m.spare[:n-1]
	return in
}

// give takes an instance back. One that failed is in no state to go on.
func (m *Module) give(in *instance, err error) {
	// A call that ended just when its time did may have been stopped after it.
	if (err == nil || errors.Is(err, ErrInput)) && !in.module.IsClosed() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.spare) < maxSpare {
			m.spare = append(m.spare, in)
			return
		}
	}
	_ = in.module.Close(context.Background()) // its memory is the collector's
}

// note counts the calls in a row that took too long.
func (m *Module) note(err error) error {
	switch late := errors.Is(err, ErrTime); {
	case late && m.late.Add(1)%strikes == 0:
		m.till.Store(clock() + int64(rest))
	case !late && m.late.Load() != 0:
		m.late.Store(0)
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("wasm: %w", err)
}

// explain names what the runtime reports.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*sys.ExitError](err); ok {
		if code := e.ExitCode(); code == sys.ExitCodeDeadlineExceeded || code == sys.ExitCodeContextCanceled || code == 0 {
			return ErrTime
		}
	}
	return fmt.Errorf("%w: %s", ErrTrap, firstLine(err.Error()))
}
