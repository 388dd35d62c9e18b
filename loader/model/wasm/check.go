package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
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

// magic begins a module of version 1.
const magic = "\x00asm\x01\x00\x00\x00"

// check looks at all that the runtime makes room for, or takes time for, on a module's
// word, before the runtime sees it: it bounds most of that only by the format's own
// limits, and a compilation that has begun cannot be stopped. It returns the module
// without its custom sections, which change nothing and would be read, too. Only core
// 2.0 is taken, in the one way that cannot be read otherwise; the runtime validates
// the rest.
func check(code []byte) (bare []byte, err error) {
	if len(code) < len(magic) || string(code[:len(magic)]) != magic {
		return nil, errors.New("it is no WebAssembly module of version 1: it must begin with 00 61 73 6d 01 00 00 00")
	}
	c := checker{}
	bare = append(make([]byte, 0, len(code)), magic...)
	for r := (reader{b: code[len(magic):]}); len(r.b) > 0; {
		all := r.b
		id := r.byte()
		body := reader{b: r.bytes(r.number())}
		if id == sectionCustom && !r.bad {
			continue
		}
		if !r.bad {
			err = c.section(id, &body)
		}
		switch {
		case r.bad || body.bad:
			return nil, errCut
		case err != nil:
			return nil, err
		case len(body.b) > 0:
			return nil, fmt.Errorf("its section %d has %d bytes more than its entries", id, len(body.b))
		}
		bare = append(bare, all[:len(all)-len(r.b)]...)
	}
	return bare, nil
}

// The sections, by their numbers.
const (
	sectionCustom    = 0
	sectionType      = 1
	sectionImport    = 2
	sectionFunction  = 3
	sectionTable     = 4
	sectionMemory    = 5
	sectionGlobal    = 6
	sectionExport    = 7
	sectionStart     = 8
	sectionElement   = 9
	sectionCode      = 10
	sectionData      = 11
	sectionDataCount = 12
)

// section checks one section.
func (c *checker) section(id byte, r *reader) error {
	switch id {
	case sectionStart, sectionDataCount:
		r.number()
		return nil
	}
	if id > sectionDataCount {
		return fmt.Errorf("it has a section %d, which core 2.0 does not know", id)
	}
	n := r.number()
	switch {
	case r.bad:
		return errCut
	case uint64(n) > uint64(len(r.b)): // each has a byte at least
		return fmt.Errorf("its section %d says that it has %d entries, in %d bytes", id, n, len(r.b))
	case n > maxEntries:
		return fmt.Errorf("its section %d has %d entries, at most %d are allowed", id, n, maxEntries)
	}
	entry := map[byte]func(*reader) error{
		sectionType: c.functionType, sectionImport: imported, sectionFunction: c.function, sectionTable: c.tableLimits, sectionMemory: memory,
		sectionGlobal: global, sectionExport: export, sectionElement: c.element, sectionCode: c.code, sectionData: data,
	}[id]
	for i := range n {
		if err := entry(r); err != nil {
			return fmt.Errorf("entry %d of section %d: %w", i, id, err)
		}
		if r.bad {
			return errCut
		}
	}
	return nil
}

// reader reads a module's bytes; bad is set when they end too early, or are none of
// those that may stand there.
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

// signed skips a signed LEB128 of at most most bytes.
func (r *reader) signed(most int) {
	for range most {
		if r.byte() < 0x80 {
			return
		}
	}
	r.b, r.bad = nil, true
}

// zero reads a byte that must be 0.
func (r *reader) zero() {
	if r.byte() != 0 {
		r.bad = true
	}
}

func (r *reader) name() string {
	b := r.bytes(r.number())
	return fmt.Sprintf("%.40q", b)
}
