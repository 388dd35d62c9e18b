package wasm

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// firstRows is how many rows an instance has room for until more are wanted.
const firstRows = 16

// instance is a module with a memory of its own. One goroutine has it at a time.
type instance struct {
	inputs int
	module api.Module
	memory api.Memory
	alloc  api.Function
	run    api.Function
	stack  [4]uint64 // of a call: parameters in, result out

	rows, out uint32 // where the numbers are in its memory
	room      int    // rows
	most      int    // rows that there is room for at once, when more than firstRows are wanted
}

// instantiate makes an instance and gives it the tensors, in the time that ctx has.
func (m *Module) instantiate(ctx context.Context) (in *instance, err error) {
	// A reactor's constructor is run when there is one. Without a name there may be many.
	mod, err := m.runtime.InstantiateModule(ctx, m.code, wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize"))
	if err != nil {
		return nil, fmt.Errorf("start: %w", explain(err))
	}
	defer func() {
		if err != nil {
			_ = mod.Close(context.Background())
		}
	}()
	in = &instance{
		inputs: m.program.Inputs, most: m.program.Rows, module: mod, memory: mod.ExportedMemory(exportMemory),
		alloc: mod.ExportedFunction(exportAlloc), run: mod.ExportedFunction(exportEval),
	}
	for i, data := range m.program.Tensors {
		if err := in.tensor(ctx, i, data); err != nil {
			return nil, fmt.Errorf("tensor %d: %w", i, err)
		}
	}
	err = in.grow(ctx, firstRows)
	return in, err
}

// call calls f with what is on the stack and returns its result.
func (in *instance) call(ctx context.Context, f api.Function, params ...uint64) (uint32, error) {
	copy(in.stack[:], params)
	if err := f.CallWithStack(ctx, in.stack[:]); err != nil {
		return 0, explain(err)
	}
	return api.DecodeU32(in.stack[0]), nil
}

// take asks the module for n bytes of its memory.
func (in *instance) take(ctx context.Context, n int) (uint32, error) {
	if n > math.MaxInt32 {
		return 0, fmt.Errorf("%w: %d bytes do not fit into its memory", ErrTrap, n)
	}
	at, err := in.call(ctx, in.alloc, uint64(n))
	if err == nil && (at == 0 || at%8 != 0 || uint64(at)+uint64(n) > uint64(in.memory.Size())) {
		err = fmt.Errorf("%w: %s(%d) gave %d, its memory has %d bytes: want a multiple of 8 with that much room behind it", ErrCode, exportAlloc, n, at, in.memory.Size())
	}
	return at, err
}

// tensor copies a tensor into the module's memory and says where it is.
func (in *instance) tensor(ctx context.Context, i int, data []byte) error {
	at, err := in.take(ctx, len(data))
	if err != nil {
		return err
	}
	if !in.memory.Write(at, data) {
		return fmt.Errorf("%w: its memory shrank", ErrTrap)
	}
	code, err := in.call(ctx, in.module.ExportedFunction(exportTensor), uint64(i), uint64(at), uint64(len(data)))
	if err == nil && code != 0 {
		err = fmt.Errorf("%w: %s returned %d", ErrCode, exportTensor, code)
	}
	return err
}

// grow makes room for n rows.
func (in *instance) grow(ctx context.Context, n int) (err error) {
	if in.rows, err = in.take(ctx, 8*n*max(in.inputs, 1)); err != nil {
		return err
	}
	if in.out, err = in.take(ctx, 8*n); err != nil {
		return err
	}
	in.room = n
	return nil
}

// eval computes all rows in one call.
func (in *instance) eval(ctx context.Context, rows, out []float64) error {
	n := len(out)
	if n > in.room {
		// All at once: what it gave before need not be of use to it again.
		if err := in.grow(ctx, max(n, in.most)); err != nil {
			return err
		}
	}
	for i, v := range rows {
		if !in.memory.WriteFloat64Le(in.rows+uint32(8*i), v) {
			return fmt.Errorf("%w: its memory shrank", ErrTrap)
		}
	}
	code, err := in.call(ctx, in.run, uint64(in.rows), uint64(n), uint64(in.inputs), uint64(in.out))
	switch {
	case err != nil:
		return err
	case code == refusedInput:
		return ErrInput
	case code != 0:
		return fmt.Errorf("%w: %s returned %d", ErrCode, exportEval, code)
	}
	for i := range out {
		v, ok := in.memory.ReadFloat64Le(in.out + uint32(8*i))
		if !ok {
			return fmt.Errorf("%w: its memory shrank", ErrTrap)
		}
		out[i] = v
	}
	return nil
}

// firstLine leaves the guest's stack trace out.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
