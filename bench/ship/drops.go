package ship

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/quadnine/quadnine/loader/delta"
)

// The model: a tensor that stays and one that each version changes.
const (
	stays   = 15 << 20 // bytes
	changes = 1 << 20
)

// file is version n of the model.
func file(n int) []byte {
	const width = 4096 // the header's room: data begins on a page
	head := fmt.Sprintf(`{"stays":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]},"w":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}}`,
		stays, stays, changes, stays, stays+changes)
	b := binary.LittleEndian.AppendUint64(nil, width-8)
	b = fmt.Appendf(b, "%-*s", width-8, head)
	b = append(b, make([]byte, stays+changes)...)
	for i := width; i < len(b); i += 8 {
		v := uint64(i) * 0x9e3779b97f4a7c15
		if i >= width+stays {
			v += uint64(n)
		}
		binary.LittleEndian.PutUint64(b[i:], v)
	}
	return b
}

// pack makes the drops of versions 1 to n below dir, each but the first as a delta
// of the first.
func pack(ctx context.Context, dir string, n int) error {
	base := file(1)
	for v := 1; v <= n; v++ {
		drop := filepath.Join(dir, strconv.Itoa(v))
		if err := os.MkdirAll(drop, 0o755); err != nil {
			return err
		}
		root, err := os.OpenRoot(drop)
		if err != nil {
			return err
		}
		p := delta.Pack{Manifest: delta.Manifest{Model: "bench", Version: uint64(v), SchemaVersion: 1, Canary: &delta.Canary{}}}
		if v == 1 {
			_, err = p.Full(ctx, root, sized(base))
		} else {
			_, _, err = p.Delta(ctx, root, 1, sized(base), sized(file(v)), false)
		}
		if err != nil {
			return fmt.Errorf("pack version %d: %w", v, err)
		}
		if err := root.Close(); err != nil {
			return err
		}
	}
	return nil
}

// commit puts the drop of a version into a watched folder: its manifest comes last.
func commit(from, to string, version int) error {
	name := strconv.Itoa(version)
	if err := os.Mkdir(filepath.Join(to, name), 0o755); err != nil {
		return err
	}
	list, err := os.ReadDir(filepath.Join(from, name))
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Name() == delta.ManifestName {
			continue
		}
		if err := os.Link(filepath.Join(from, name, e.Name()), filepath.Join(to, name, e.Name())); err != nil {
			return err
		}
	}
	next := filepath.Join(to, name, ".next")
	if err := os.Link(filepath.Join(from, name, delta.ManifestName), next); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(to, name, delta.ManifestName))
}
