package delta

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math/bits"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Bounds of a safetensors header.
const (
	maxHeader = 100 << 20 // the format's own bound, give or take
	maxName   = 4096      // bytes of a tensor's name
	maxRank   = 64        // numpy's own bound
)

// bitsOf has the size of one element of each dtype, as the safetensors library
// (0.8) knows them. Those below 8 bits must fill whole bytes.
var bitsOf = map[string]uint64{
	"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
	"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
	"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}

// Tensor is one array in a safetensors file.
type Tensor struct {
	Name  string
	DType string
	Shape []int64
	Off   int64 // of its first byte in the file
	Len   int64 // in bytes
}

// Safetensors is what the header of a safetensors file says.
type Safetensors struct {
	Tensors  []Tensor // by offset; together they fill the file from DataOff to its end
	Metadata map[string]string
	DataOff  int64 // of the first data byte: 8 + the length of the JSON header

	byName map[string]int
}

// Tensor returns the tensor called name.
func (s *Safetensors) Tensor(name string) (Tensor, bool) {
	i, ok := s.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return s.Tensors[i], true
}

// ParseSafetensors reads the header of a safetensors file of size bytes and
// checks all of it: lengths, names, dtypes, shapes, and that the data has neither
// holes nor overlaps. Fields that the format does not know are refused, because
// they may change what the bytes mean. The data is not read.
func ParseSafetensors(r io.ReaderAt, size int64) (*Safetensors, error) {
	if size < 8 {
		return nil, malformed("byte 0: %d bytes are no safetensors file: want 8 bytes of header length and the header", size)
	}
	var head [8]byte
	if err := readFull(r, head[:], 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(head[:])
	switch {
	case n > maxHeader:
		return nil, malformed("byte 0: header length is %d, at most %d is allowed: is this a safetensors file?", n, maxHeader)
	case int64(n) > size-8:
		return nil, malformed("byte 0: header length is %d, but only %d bytes follow: the file was cut off, or is no safetensors file", n, size-8)
	case n < 2:
		return nil, malformed("byte 0: header length is %d, want at least 2", n)
	}
	text := make([]byte, n)
	if err := readFull(r, text, 8); err != nil {
		return nil, err
	}
	if text[0] != '{' {
		return nil, malformed("byte 8: header begins with %q, want {", text[0])
	}
	if !utf8.Valid(text) {
		return nil, malformed("byte 8: header is not UTF-8")
	}
	p := headerParser{dec: json.NewDecoder(bytes.NewReader(text))}
	p.dec.UseNumber()
	s := &Safetensors{DataOff: 8 + int64(n), byName: make(map[string]int)}
	if err := p.file(s); err != nil {
		return nil, err
	}
	if rest := bytes.TrimRight(text[p.dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, malformed("byte %d: %q after the end of the header", 8+p.dec.InputOffset(), rest[:min(len(rest), 16)])
	}
	if err := s.settle(size); err != nil {
		return nil, err
	}
	return s, nil
}

// settle sorts the tensors and checks that they fill the file.
func (s *Safetensors) settle(size int64) error {
	slices.SortFunc(s.Tensors, func(a, b Tensor) int {
		if a.Off != b.Off {
			return int(min(max(a.Off-b.Off, -1), 1))
		}
		return int(min(max(a.Len-b.Len, -1), 1)) // empty ones first
	})
	end := s.DataOff
	for i, t := range s.Tensors {
		switch {
		case t.Off < end:
			return malformed("tensor %q: begins at byte %d, within %q, which ends at byte %d", t.Name, t.Off, s.Tensors[i-1].Name, end)
		case t.Off > end:
			return malformed("tensor %q: begins at byte %d, but nothing fills the file from byte %d: holes are not allowed", t.Name, t.Off, end)
		case t.Len > size-t.Off:
			return malformed("tensor %q: ends at byte %d, but the file ends at byte %d: it was cut off or is still being written", t.Name, t.Off+t.Len, size)
		}
		end = t.Off + t.Len
		s.byName[t.Name] = i
	}
	if end != size {
		return malformed("byte %d: the last tensor ends here, the file %d bytes later: trailing data is not allowed", end, size-end)
	}
	return nil
}

// headerParser walks the header's tokens. The structure is fixed, so that a
// deeper one is refused at its first bracket.
type headerParser struct{ dec *json.Decoder }

func (p *headerParser) at() int64 { return 8 + p.dec.InputOffset() }

func (p *headerParser) token() (json.Token, error) {
	t, err := p.dec.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, malformed("byte %d: header: %w", p.at(), err)
	}
	return t, nil
}

func (p *headerParser) delim(want json.Delim, what string) error {
	t, err := p.token()
	if err == nil && t != want {
		err = malformed("byte %d: %s: got %v, want %v", p.at(), what, t, want)
	}
	return err
}

func (p *headerParser) text(what string) (string, error) {
	t, err := p.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", malformed("byte %d: %s: got %v, want a string", p.at(), what, t)
	}
	return s, nil
}

// number reads a whole number of at least 0 and below 2^63.
func (p *headerParser) number(what string) (int64, error) {
	t, err := p.token()
	if err != nil {
		return 0, err
	}
	if n, ok := t.(json.Number); ok {
		if v, err := strconv.ParseUint(n.String(), 10, 63); err == nil {
			return int64(v), nil
		}
	}
	return 0, malformed("byte %d: %s: got %v, want a whole number from 0 to 2^63-1", p.at(), what, t)
}

// numbers reads a list of at most most numbers.
func (p *headerParser) numbers(what string, most int) ([]int64, error) {
	if err := p.delim('[', what); err != nil {
		return nil, err
	}
	list := []int64{}
	for p.dec.More() {
		if len(list) == most {
			return nil, malformed("byte %d: %s: more than %d numbers", p.at(), what, most)
		}
		n, err := p.number(what)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, p.delim(']', what)
}

// object calls field for each member, whose value it must read.
func (p *headerParser) object(what string, field func(key string) error) error {
	if err := p.delim('{', what); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for p.dec.More() {
		key, err := p.text(what)
		if err != nil {
			return err
		}
		if seen[key] {
			return malformed("byte %d: %s: %q is there twice", p.at(), what, key)
		}
		seen[key] = true
		if err := field(key); err != nil {
			return err
		}
	}
	return p.delim('}', what)
}

func (p *headerParser) file(s *Safetensors) error {
	return p.object("header", func(key string) error {
		if key != "__metadata__" {
			t, err := p.tensor(key, s.DataOff)
			s.Tensors = append(s.Tensors, t)
			return err
		}
		s.Metadata = make(map[string]string)
		return p.object("__metadata__", func(k string) (err error) {
			s.Metadata[k], err = p.text("__metadata__ " + strconv.Quote(k))
			return err
		})
	})
}

func (p *headerParser) tensor(name string, dataOff int64) (Tensor, error) {
	if name == "" || len(name) > maxName {
		return Tensor{}, malformed("byte %d: a tensor's name has %d bytes, want 1 to %d", p.at(), len(name), maxName)
	}
	what := "tensor " + strconv.Quote(name)
	t := Tensor{Name: name}
	var offsets []int64
	err := p.object(what, func(key string) (err error) {
		switch key {
		case "dtype":
			t.DType, err = p.text(what + ": dtype")
		case "shape":
			t.Shape, err = p.numbers(what+": shape", maxRank)
		case "data_offsets":
			offsets, err = p.numbers(what+": data_offsets", 2)
		default:
			err = malformed("byte %d: %s: unknown field %q; known: dtype, shape, data_offsets", p.at(), what, key)
		}
		return err
	})
	switch {
	case err != nil:
		return t, err
	case t.Shape == nil:
		return t, malformed("%s: no shape", what)
	case len(offsets) != 2:
		return t, malformed("%s: data_offsets has %d numbers, want begin and end", what, len(offsets))
	case offsets[0] > offsets[1]:
		return t, malformed("%s: data_offsets end at %d before they begin at %d", what, offsets[1], offsets[0])
	case offsets[1] > maxSize:
		return t, malformed("%s: data_offsets end at %d, at most %d is allowed", what, offsets[1], int64(maxSize))
	}
	t.Off, t.Len = dataOff+offsets[0], offsets[1]-offsets[0]
	size, ok := sizeOf(t.DType, t.Shape)
	switch {
	case bitsOf[t.DType] == 0:
		return t, malformed("%s: unknown dtype %q", what, t.DType)
	case !ok:
		return t, malformed("%s: %s%v overflows or does not fill whole bytes", what, t.DType, t.Shape)
	case size != uint64(t.Len):
		return t, malformed("%s: %s%v takes %d bytes, data_offsets hold %d", what, t.DType, t.Shape, size, t.Len)
	}
	return t, nil
}

// sizeOf returns the bytes of an array, false when they overflow.
func sizeOf(dtype string, shape []int64) (uint64, bool) {
	n := bitsOf[dtype]
	for _, d := range shape {
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 {
			return 0, false
		}
		n = lo
	}
	return n / 8, n%8 == 0
}
