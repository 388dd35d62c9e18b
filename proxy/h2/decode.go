package h2

import (
	"golang.org/x/net/http2/hpack"

	"github.com/quadnine/quadnine/proxy/field"
)

// decoder turns header blocks into lists.
type decoder struct {
	d         *hpack.Decoder
	dst       *field.List
	size      int
	maxSize   int
	maxFields int
	cut       bool
}

func (d *decoder) init(cfg Config) {
	d.maxSize, d.maxFields = int(cfg.MaxHeaderBytes), cfg.MaxHeaderFields
	d.d = hpack.NewDecoder(defaultTableSize, d.emit)
	// Until the peer acknowledged our SETTINGS it may use the default size.
	d.d.SetAllowedMaxDynamicTableSize(max(cfg.HeaderTableSize, defaultTableSize))
}

// settled says that the peer acknowledged our SETTINGS.
func (d *decoder) settled(size uint32) { d.d.SetAllowedMaxDynamicTableSize(size) }

// decode puts a complete block's fields into dst. cut says that the list is over
// the limits and holds only its beginning. An error ends the connection: the
// compression table is lost.
func (d *decoder) decode(block []byte, dst *field.List) (cut bool, err error) {
	dst.Reset()
	d.dst, d.size, d.cut = dst, 0, false
	d.d.SetEmitEnabled(true)
	if _, err = d.d.Write(block); err == nil {
		err = d.d.Close()
	}
	return d.cut, err
}

// emit receives one field. Past the limits only the table is kept up to date.
func (d *decoder) emit(f hpack.HeaderField) {
	d.size += len(f.Name) + len(f.Value) + field.Overhead
	if d.size > d.maxSize || d.dst.Len() >= d.maxFields {
		d.cut = true
		d.d.SetEmitEnabled(false)
		return
	}
	d.dst.Add(f.Name, f.Value)
	if f.Sensitive {
		d.dst.SetSensitive(d.dst.Len() - 1)
	}
}
