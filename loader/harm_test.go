package loader

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"lukechampine.com/blake3"

	"github.com/quadnine/quadnine/loader/delta"
)

// harmTable changes the entries of a drop's delta and makes its digests true
// again: what a signer with bad intent could ship.
func harmTable(tb testing.TB, dir string, change func([]delta.Entry)) {
	tb.Helper()
	m := readBack(tb, dir)
	name := filepath.Join(dir, m.Files[0].Path)
	b, err := os.ReadFile(name)
	must(tb, err)
	f, err := os.Open(name)
	must(tb, err)
	defer f.Close()
	d, err := delta.Parse(f, int64(len(b)))
	must(tb, err)
	change(d.Entries)
	at := 4096 // doc.go of package delta says where everything is
	for _, e := range d.Entries {
		at += 32 + len(e.Name)
		for _, x := range e.Extents {
			binary.LittleEndian.PutUint64(b[at:], uint64(x.Off))
			at += 24
		}
	}
	root := delta.RootOfBytes(b[4096 : 4096+d.Header.TableSize])
	copy(b[160:], root[:])
	clear(b[200:232])
	sum := blake3.Sum256(b[:4096])
	copy(b[200:], sum[:])
	must(tb, os.WriteFile(name, b, 0o644))
	all := delta.RootOfBytes(b)
	edit(tb, dir, m.Files[0].BLAKE3.String(), all.String())
}
