package wasm

import (
	"errors"
	"fmt"
)

// checker holds what later sections need of earlier ones, and what all of them come
// to.
type checker struct {
	types     []arity
	functions []arity // of the function section, in its order
	table     uint64  // elements that the tables may have
	elements  uint64  // of element segments
	locals    uint64  // of all functions
	steps     uint64  // of all functions
	work      uint64  // of all functions
	bodies    int     // seen so far
}

// arity is how many values a function takes and gives.
type arity struct{ params, results uint32 }

func (a arity) sum() uint64 { return uint64(a.params) + uint64(a.results) }

// valueType reads the type of a value.
func (r *reader) valueType() error {
	if b := r.byte(); !isValueType(b) && !r.bad {
		return fmt.Errorf("%#x is no type of a value in core 2.0", b)
	}
	return nil
}

func isValueType(b byte) bool {
	return b >= 0x7b && b <= 0x7f || isReference(b)
}

func isReference(b byte) bool { return b == 0x70 || b == 0x6f }

// functionType reads an entry of the type section.
func (c *checker) functionType(r *reader) error {
	if form := r.byte(); form != 0x60 && !r.bad {
		return fmt.Errorf("%#x begins no type of a function", form)
	}
	var a arity
	for _, v := range []struct {
		n    *uint32
		most uint32
		what string
	}{{&a.params, maxParams, "parameters"}, {&a.results, maxResults, "results"}} {
		*v.n = r.number()
		if *v.n > v.most {
			return fmt.Errorf("a function has %d %s, at most %d are allowed", *v.n, v.what, v.most)
		}
		for range *v.n {
			if err := r.valueType(); err != nil {
				return err
			}
		}
	}
	c.types = append(c.types, a)
	return nil
}

// imported refuses what a module wants from outside.
func imported(r *reader) error {
	return fmt.Errorf("it imports %s.%s: a module gets nothing from outside; link it without", r.name(), r.name())
}

// function reads an entry of the function section.
func (c *checker) function(r *reader) error {
	a, err := c.typeAt(r.number())
	c.functions = append(c.functions, a)
	return err
}

func (c *checker) typeAt(i uint32) (arity, error) {
	if uint64(i) >= uint64(len(c.types)) {
		return arity{}, fmt.Errorf("it has no type %d", i)
	}
	return c.types[i], nil
}

// tableLimits reads an entry of the table section.
func (c *checker) tableLimits(r *reader) error {
	if b := r.byte(); !isReference(b) && !r.bad {
		return fmt.Errorf("%#x is no type of a table's elements", b)
	}
	flags := r.byte()
	r.number() // the least, which the runtime checks to be at most the most
	if flags != 1 && !r.bad {
		return errors.New("it has a table that may grow without end: link it with a maximum")
	}
	most := r.number()
	if c.table += uint64(most); c.table > maxElements {
		return fmt.Errorf("its tables may have %d elements, at most %d are allowed", c.table, maxElements)
	}
	return nil
}

// memory reads an entry of the memory section, which the runtime bounds.
func memory(r *reader) error {
	flags := r.byte()
	r.number()
	if flags == 1 {
		r.number()
	} else if flags != 0 && !r.bad {
		return fmt.Errorf("%#x are no limits of a memory in core 2.0", flags)
	}
	return nil
}

// global reads an entry of the global section.
func global(r *reader) error {
	if err := r.valueType(); err != nil {
		return err
	}
	r.byte() // whether it may change
	return r.constant()
}

// export reads an entry of the export section.
func export(r *reader) error {
	r.bytes(r.number()) // the name
	r.byte()            // the kind
	r.number()
	return nil
}

// element reads an entry of the element section: core 2.0, section 5.5.12.
func (c *checker) element(r *reader) error {
	kind := r.number()
	if kind > 7 {
		return fmt.Errorf("%d is no kind of an element segment in core 2.0", kind)
	}
	active, explicit, expressions := kind&1 == 0, kind&2 != 0, kind&4 != 0
	if active {
		if explicit {
			r.number() // the table
		}
		if err := r.constant(); err != nil {
			return err
		}
	}
	if !active || explicit {
		if b := r.byte(); expressions && !isReference(b) || !expressions && b != 0 {
			return fmt.Errorf("%#x is no type of an element", b)
		}
	}
	n := r.number()
	if c.elements += uint64(n); c.elements > maxElements {
		return fmt.Errorf("its element segments have %d elements, at most %d are allowed", c.elements, maxElements)
	}
	for range n {
		if !expressions {
			r.number()
		} else if err := r.constant(); err != nil {
			return err
		}
		if r.bad {
			return errCut
		}
	}
	return nil
}

// data reads an entry of the data section.
func data(r *reader) error {
	switch kind := r.number(); kind {
	case 2:
		r.number() // the memory
		fallthrough
	case 0:
		if err := r.constant(); err != nil {
			return err
		}
	case 1:
	default:
		return fmt.Errorf("%d is no kind of a data segment in core 2.0", kind)
	}
	r.bytes(r.number())
	return nil
}

// constant reads an expression that is one constant instruction, and its end.
func (r *reader) constant() error {
	switch op := r.byte(); op {
	case 0x41: // i32.const
		r.signed(5)
	case 0x42: // i64.const
		r.signed(10)
	case 0x43: // f32.const
		r.bytes(4)
	case 0x44: // f64.const
		r.bytes(8)
	case 0x23, 0xd2: // global.get, ref.func
		r.number()
	case 0xd0: // ref.null
		if b := r.byte(); !isReference(b) && !r.bad {
			return fmt.Errorf("%#x is no type of a reference", b)
		}
	case 0xfd: // v128.const
		if sub := r.byte(); sub != 12 && !r.bad {
			return fmt.Errorf("instruction 0xfd %#x is no constant", sub)
		}
		r.bytes(16)
	default:
		if !r.bad {
			return fmt.Errorf("instruction %#x is no constant", op)
		}
	}
	if end := r.byte(); end != opEnd && !r.bad {
		return errors.New("a constant expression has more than one instruction")
	}
	return nil
}
