package wasm

import "fmt"

// The instructions that are told apart: core 2.0, section 5.4.
const (
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opSelectTyped  = 0x1c
	opMore         = 0xfc // conversions that saturate, bulk memory, tables
	opVector       = 0xfd
)

// cost is what compiling a function takes: steps bound its memory, branches and
// variables (what may change from one branch to the next) its time. Each instruction is
// a step, and more for what it carries.
type cost struct{ instructions, steps, branches, vars uint64 }

// code reads an entry of the code section.
func (c *checker) code(r *reader) error {
	body := reader{b: r.bytes(r.number())}
	if r.bad {
		return errCut
	}
	if c.bodies == len(c.functions) {
		return fmt.Errorf("it has code for more than its %d functions", len(c.functions))
	}
	f := cost{vars: uint64(c.functions[c.bodies].params)}
	c.bodies++
	for range body.number() {
		f.vars += uint64(body.number())
		if err := body.valueType(); err != nil {
			return err
		}
		if f.vars > maxVars {
			return fmt.Errorf("a function has %d parameters and locals, at most %d are allowed", f.vars, maxVars)
		}
		if body.bad {
			return errCut
		}
	}
	for len(body.b) > 0 {
		if err := c.instruction(&body, &f); err != nil {
			return err
		}
		if body.bad {
			return errCut
		}
	}
	return c.charge(f)
}

// charge holds a function against the bounds of one and of all.
func (c *checker) charge(f cost) error {
	c.locals += f.vars
	c.steps += f.steps
	c.work += f.branches * (f.branches + 24*f.vars)
	for _, b := range []struct {
		what       string
		have, most uint64
	}{
		{"a function has %d steps", f.steps, maxSteps},
		{"a function has %d branches", f.branches, maxBranches},
		{"a function has %d as the product of its branches and its variables", f.branches * f.vars, maxCrossing},
		{"a function has %d as the product of its branches and its instructions", f.branches * f.instructions, maxSpan},
		{"its functions have %d parameters and locals", c.locals, maxAllVars},
		{"its functions have %d steps", c.steps, maxAllSteps},
		{"its functions have %d as the sum of branches times (branches and 24 times variables)", c.work, maxWork},
	} {
		if b.have > b.most {
			return fmt.Errorf(b.what+", at most %d are allowed: compiling it would take too long; split its functions, or compile it for size", b.have, b.most)
		}
	}
	return nil
}

// branch notes that control may go to n places. Each carries as many values as a
// block may have.
func (f *cost) branch(n uint64) {
	f.branches += n
	f.steps += n * maxResults
}

// instruction reads one instruction.
func (c *checker) instruction(r *reader, f *cost) error {
	f.instructions++
	f.steps++
	switch op := r.byte(); {
	case op == opBlock || op == opLoop || op == opIf:
		f.branch(1)
		return c.blockType(r)
	case op == opElse:
		f.branch(1)
	case op == opBr || op == opBrIf:
		f.branch(1)
		r.number()
	case op == opBrTable:
		n := r.number()
		if uint64(n) > uint64(len(r.b)) {
			return fmt.Errorf("a br_table says that it has %d labels, in %d bytes", n, len(r.b))
		}
		f.branch(uint64(n) + 1)
		for range uint64(n) + 1 {
			r.number()
		}
	case op == opReturn:
		f.steps += maxResults
	case op == opCall:
		i := r.number()
		if uint64(i) >= uint64(len(c.functions)) {
			return fmt.Errorf("it has no function %d", i)
		}
		f.steps += c.functions[i].sum()
	case op == opCallIndirect:
		a, err := c.typeAt(r.number())
		f.steps += a.sum()
		r.number() // the table
		return err
	case op == opSelectTyped:
		if n := r.number(); n != 1 {
			return fmt.Errorf("a select says that it has %d types: want one", n)
		}
		return r.valueType()
	case op >= 0x20 && op <= 0x26, op == 0xd2: // variables, table.get and table.set, ref.func
		r.number()
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.number()
		r.number()
	case op == 0x3f || op == 0x40: // memory.size, memory.grow
		r.zero()
	case op == 0x41: // i32.const
		r.signed(5)
	case op == 0x42: // i64.const
		r.signed(10)
	case op == 0x43: // f32.const
		r.bytes(4)
	case op == 0x44: // f64.const
		r.bytes(8)
	case op == 0xd0: // ref.null
		return r.valueType()
	case op == opMore:
		return more(r, f)
	case op == opVector:
		return vector(r)
	case op <= 0x01, op == opEnd, op == 0x1a, op == 0x1b, op >= 0x45 && op <= 0xc4, op == 0xd1: // nothing follows
	default:
		return fmt.Errorf("it has an instruction %#x, which core 2.0 does not know", op)
	}
	return nil
}

// blockType reads the type of a block: none, one of a value, or that of a function.
func (c *checker) blockType(r *reader) error {
	if len(r.b) > 0 && (r.b[0] == 0x40 || isValueType(r.b[0])) {
		r.byte()
		return nil
	}
	a, err := c.typeAt(r.number())
	if err == nil && a.params > maxResults {
		err = fmt.Errorf("a block has %d parameters, at most %d are allowed", a.params, maxResults)
	}
	return err
}

// bulkBranches is what one instruction that the runtime makes loops of counts as.
const bulkBranches = 4

// more reads what follows 0xfc.
func more(r *reader, f *cost) error {
	switch sub := r.byte(); sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // conversions that saturate
	case 8: // memory.init
		r.number()
		r.zero()
	case 9, 13, 15, 16, 17: // data.drop, elem.drop, table.grow, table.size, table.fill
		r.number()
	case 10: // memory.copy
		r.zero()
		r.zero()
	case 11: // memory.fill
		r.zero()
	case 12, 14: // table.init, table.copy
		r.number()
		r.number()
	default:
		if !r.bad {
			return fmt.Errorf("it has an instruction 0xfc %#x, which core 2.0 does not know", sub)
		}
	}
	f.branch(bulkBranches)
	return nil
}

// vector reads what follows 0xfd. Numbers from 128 on take two bytes: the second is
// always 1 in core 2.0.
func vector(r *reader) error {
	sub := r.byte()
	if sub >= 0x80 {
		if second := r.byte(); second != 1 && !r.bad {
			return fmt.Errorf("it has an instruction 0xfd %#x %#x, which core 2.0 does not know", sub, second)
		}
		return nil
	}
	switch {
	case sub <= 11, sub == 92, sub == 93: // loads and stores
		r.number()
		r.number()
	case sub == 12 || sub == 13: // v128.const, i8x16.shuffle
		r.bytes(16)
	case sub >= 21 && sub <= 34: // lanes
		r.byte()
	case sub >= 84 && sub <= 91: // loads and stores of lanes
		r.number()
		r.number()
		r.byte()
	}
	return nil
}
