package delta

// Report says what differs between two versions.
type Report struct {
	BaseSize    int64    `json:"base_bytes"`
	BaseRoot    Root     `json:"base_root"`
	TargetSize  int64    `json:"target_bytes"`
	TargetRoot  Root     `json:"target_root"`
	DeltaSize   int64    `json:"delta_bytes"`   // of the .qd file
	PayloadSize int64    `json:"payload_bytes"` // of it, with padding
	Shipped     int64    `json:"shipped_bytes"` // changed bytes, in whole pages and rows
	Extents     int      `json:"extents"`
	Rows        int      `json:"rows"`
	ByTensor    bool     `json:"by_tensor"` // both are safetensors files
	Same        int      `json:"same"`      // tensors that did not change
	Changes     []Change `json:"changes"`   // by offset
	Removed     []string `json:"removed,omitempty"`
}

// Change is one tensor that differs.
type Change struct {
	Name    string `json:"name"`          // "" for the safetensors header, or for the file when it is none
	Kind    Kind   `json:"kind"`          // PAGES or ROWS when only parts changed
	Bytes   int64  `json:"bytes"`         // of the tensor
	Shipped int64  `json:"shipped_bytes"` // of them in the delta
	Extents int    `json:"extents"`
	Rows    int    `json:"rows"`
}

// finish fills the report from the entries.
func (p *Plan) finish() {
	r := &p.Report
	h := p.header
	r.BaseSize, r.BaseRoot, r.TargetSize, r.TargetRoot = h.BaseSize, h.BaseRoot, h.TargetSize, h.TargetRoot
	r.PayloadSize = p.payload.size
	r.DeltaSize = alignUp(headerSize+int64(len(encodeTable(p.Entries)))) + r.PayloadSize
	list := Summarize(p.Entries)
	r.Changes = list[:0]
	for _, c := range list {
		if c.Kind == Ref {
			r.Same++
			continue
		}
		r.Shipped += c.Shipped
		r.Extents += c.Extents
		r.Rows += c.Rows
		r.Changes = append(r.Changes, c)
	}
}

// Summarize returns one line for each name in entries, in their order: unchanged
// ones are REF, those that come from base and payload PAGES, or ROWS when rows are
// all that was shipped in parts.
func Summarize(entries []Entry) []Change {
	list := []Change{}
	for i := range entries {
		e := &entries[i]
		if n := len(list); n == 0 || list[n-1].Name != e.Name {
			list = append(list, Change{Name: e.Name})
		}
		c := &list[len(list)-1]
		c.Bytes += e.Len
		c.Shipped += e.Shipped()
		c.Extents += len(e.Extents)
		c.Rows += len(e.Rows)
		switch {
		case c.Shipped == 0:
			c.Kind = Ref
		case c.Shipped == c.Bytes:
			c.Kind = Whole
		case c.Rows > 0 && c.Extents == 0:
			c.Kind = Rows
		default:
			c.Kind = Pages
		}
	}
	return list
}
