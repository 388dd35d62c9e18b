package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds of a module, beyond Limits.
const (
	maxCode     = 16 << 20 // bytes
	maxElements = 1 << 16  // of all tables: the memory limit does not count them
)

// Fits reports what of p is larger than any call could use, so that nobody copies
// it for nothing.
func (p *Program) Fits() error {
	if len(p.Code) > maxCode {
		return fmt.Errorf("wasm: it has %d bytes, at most %d are allowed", len(p.Code), maxCode)
	}
	total, room := uint64(0), uint64(p.Limits.Pages)*PageSize
	for _, data := range p.Tensors {
		total += uint64(len(data))
	}
	if total > room {
		return fmt.Errorf("wasm: its tensors have %d bytes, its memory at most %d: allow it more pages, or give it less", total, room)
	}
	return nil
}

var errCut = errors.New("it ends in the middle of a section")

// check looks at what the runtime bounds only by the format's own limits: a table
// of 2^27 elements is a gigabyte, and one that may grow is one later. It also says
// what is imported in plain words. The runtime validates the rest.
func check(code []byte) error {
	if len(code) < 8 || string(code[:4]) != "\x00asm" || binary.LittleEndian.Uint32(code[4:]) != 1 {
		return errors.New("it is no WebAssembly module of version 1: it must begin with 00 61 73 6d 01 00 00 00")
	}
	for r := (reader{b: code[8:]}); len(r.b) > 0; {
		id := r.byte()
		body := reader{b: r.bytes(r.number())}
		if err := body.count(id); err != nil {
			return err
		}
		switch id {
		case 1:
			body.types()
		case 2:
			if n := body.number(); n > 0 {
				return fmt.Errorf("it imports %s.%s: a module gets nothing from outside; link it without", body.name(), body.name())
			}
		case 4:
			if err := body.tables(); err != nil {
				return err
			}
		case 7:
			body.exports()
		case 10:
			for range body.number() {
				body.bytes(body.number())
			}
		}
		if r.bad || body.bad {
			return errCut
		}
	}
	return nil
}

// The sections that are no vectors: custom, start, data count.
const notVectors = 1<<0 | 1<<8 | 1<<12

// count looks at how many entries a section says it has, each of a byte at least:
// the runtime makes room for them before it reads one.
func (r reader) count(id byte) error {
	if id > 12 || notVectors>>id&1 == 1 {
		return nil
	}
	if n := r.number(); uint64(n) > uint64(len(r.b)) {
		return fmt.Errorf("its section %d says that it has %d entries, in %d bytes", id, n, len(r.b))
	}
	return nil
}

// types walks the type section, whose entries are two vectors of one byte each.
func (r *reader) types() {
	for range r.number() {
		r.byte() // the form
		r.bytes(r.number())
		r.bytes(r.number())
		if r.bad {
			return
		}
	}
}

// exports walks the export section.
func (r *reader) exports() {
	for range r.number() {
		r.bytes(r.number()) // the name
		r.byte()            // the kind
		r.number()
		if r.bad {
			return
		}
	}
}

// tables checks the table section.
func (r *reader) tables() error {
	total := uint64(0)
	for range r.number() {
		r.byte() // the type
		flags := r.byte()
		r.number() // the least, which the runtime checks to be at most the most
		if flags&1 == 0 {
			return errors.New("it has a table that may grow without end: link it with a maximum")
		}
		most := r.number()
		if r.bad {
			return errCut
		}
		if total += uint64(most); total > maxElements {
			return fmt.Errorf("its tables may have %d elements, at most %d are allowed", total, maxElements)
		}
	}
	return nil
}

// reader reads a module's bytes; bad is set when they end too early.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if b := r.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (r *reader) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// number reads an unsigned LEB128 of at most 32 bits. What does not fit is bad,
// and read as 0.
func (r *reader) number() uint32 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 5 || v>>32 != 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

func (r *reader) name() string {
	b := r.bytes(r.number())
	return fmt.Sprintf("%.40q", b)
}
