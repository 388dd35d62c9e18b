package h2

import (
	"errors"

	"github.com/quadnine/quadnine/proxy/field"
)

// decoder turns header blocks into lists (RFC 7541). Fields go from the block or
// the tables straight into the list's arena.
type decoder struct {
	table     dynamicTable
	allowed   int // largest table that the peer may choose
	maxSize   int
	maxFields int

	dst  *field.List
	size int
	cut  bool
	tmp  [2][]byte // Huffman-decoded name and value

	token, lastToken uint64 // given to this decoder and not used yet
}

// tokenRun is how many tokens a decoder takes at a time.
const tokenRun = 1 << 12

// newToken returns a number that no other entry of any table has.
func (d *decoder) newToken() uint64 {
	if d.token == d.lastToken {
		d.token = field.Tokens(tokenRun)
		d.lastToken = d.token + tokenRun
	}
	d.token++
	return d.token - 1
}

// The errors of a header block; each ends the connection with COMPRESSION_ERROR.
var (
	errTruncated  = errors.New("header block ends within a field")
	errIndex      = errors.New("index beyond the tables")
	errInteger    = errors.New("integer too large")
	errSizeUpdate = errors.New("table size update larger than allowed or not at the start")
)

func (d *decoder) init(cfg Config) {
	d.maxSize, d.maxFields = int(cfg.MaxHeaderBytes), cfg.MaxHeaderFields
	d.table.maxSize = defaultTableSize
	// Until the peer acknowledged our SETTINGS it may use the default size.
	d.allowed = defaultTableSize
}

// settled says that the peer acknowledged our SETTINGS. More than the default
// size is never advertised.
func (d *decoder) settled(size uint32) { d.allowed = int(min(size, defaultTableSize)) }

// decode puts a complete block's fields into dst. cut says that the list is over
// the limits and holds only its beginning. An error ends the connection: the
// compression table is lost.
func (d *decoder) decode(p []byte, dst *field.List) (cut bool, err error) {
	dst.Reset()
	d.dst, d.size, d.cut = dst, 0, false
	starting := true
	for len(p) > 0 && err == nil {
		switch b := p[0]; {
		case b&0x80 != 0: // 6.1 indexed
			var i uint64
			if i, p, err = readInt(p, 7); err == nil {
				err = d.indexed(i)
			}
		case b&0xc0 == 0x40: // 6.2.1 literal with incremental indexing
			p, err = d.literal(p, 6, true, false)
		case b&0xe0 == 0x20: // 6.3 table size update
			var n uint64
			if n, p, err = readInt(p, 5); err == nil && (!starting || n > uint64(d.allowed)) {
				err = errSizeUpdate
			}
			if err == nil {
				d.table.resize(int(n))
			}
			continue
		default: // 6.2.2 without indexing, 6.2.3 never indexed
			p, err = d.literal(p, 4, false, b&0x10 != 0)
		}
		starting = false
	}
	return d.cut, err
}

// lookup returns the entry at an index (RFC 7541 section 2.3.3), or nil.
func (d *decoder) lookup(i uint64) *tableEntry {
	i -= staticLen + 1
	if i >= d.table.len() {
		return nil
	}
	return d.table.slot(d.table.next - 1 - i)
}

func (d *decoder) indexed(i uint64) error {
	if i-1 < staticLen {
		f := &staticFields[i-1]
		if d.admit(len(f.pair)) {
			d.dst.AddPair(f.pair, f.name, f.mark)
		}
		return nil
	}
	e := d.lookup(i)
	if e == nil {
		return errIndex
	}
	n := e.name + e.value
	if d.admit(int(n)) {
		d.dst.AddPair(d.table.ring[e.off:e.off+n], int(e.name), field.Mark{Token: e.id, Kind: e.kind, Static: e.static})
	}
	return nil
}

// admit counts a field against the limits. Past them only the table is kept up.
func (d *decoder) admit(n int) bool {
	d.size += n + field.Overhead
	if d.cut || d.size > d.maxSize || d.dst.Len() >= d.maxFields {
		d.cut = true
		return false
	}
	return true
}

func (d *decoder) literal(p []byte, prefix uint, index, sensitive bool) ([]byte, error) {
	i, p, err := readInt(p, prefix)
	if err != nil {
		return nil, err
	}
	var name, value []byte
	var class, static uint8
	switch {
	case i == 0:
		if name, p, err = d.text(p, 0); err != nil {
			return nil, err
		}
		class, static = classOf(name), staticIndex(name)
	case i <= staticLen:
		f := &staticFields[i-1]
		name, class, static = f.pair[:f.name], f.class, f.mark.Static
	default:
		e := d.lookup(i)
		if e == nil {
			return nil, errIndex
		}
		name, static = d.table.ring[e.off:e.off+e.name], e.static
		if class = e.kind; class == kindNone {
			class = classOf(name)
		}
	}
	if value, p, err = d.text(p, 1); err != nil {
		return nil, err
	}
	kind := judge(class, value)
	if d.admit(len(name) + len(value)) {
		d.dst.AddMarked(name, value, field.Mark{Kind: kind, Static: static, Literal: true})
		if sensitive {
			d.dst.SetSensitive(d.dst.Len() - 1)
		}
	}
	if index {
		d.table.insert(name, value, tableEntry{kind: kind, static: static, id: d.newToken()})
	}
	return p, nil
}

// text reads a string literal (RFC 7541 section 5.2): from the block itself, or
// decoded into scratch.
func (d *decoder) text(p []byte, scratch int) (text, rest []byte, err error) {
	if len(p) == 0 {
		return nil, nil, errTruncated
	}
	coded := p[0]&0x80 != 0
	n, p, err := readInt(p, 7)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(p)) {
		return nil, nil, errTruncated
	}
	text, rest = p[:n:n], p[n:]
	if coded {
		d.tmp[scratch], err = appendHuffman(d.tmp[scratch][:0], text)
		text = d.tmp[scratch]
	}
	return text, rest, err
}

// readInt reads an integer with an n-bit prefix (RFC 7541 section 5.1), at most
// what five continuation bytes hold.
func readInt(p []byte, n uint) (v uint64, rest []byte, err error) {
	mask := uint64(1)<<n - 1
	v = uint64(p[0]) & mask
	p = p[1:]
	if v < mask {
		return v, p, nil
	}
	for shift := uint(0); ; shift += 7 {
		switch {
		case len(p) == 0:
			return 0, nil, errTruncated
		case shift >= 63:
			return 0, nil, errInteger
		}
		b := p[0]
		p = p[1:]
		v += uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			return v, p, nil
		}
	}
}
