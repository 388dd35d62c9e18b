package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

	"github.com/quadnine/quadnine/loader/delta"
)

// ErrOther says that a bucket holds another drop at a version's place.
var ErrOther = errors.New("the bucket holds another drop there")

// Pushed is what Push did.
type Pushed struct {
	At    string `json:"at"`    // the version's address
	Files int    `json:"files"` // that were sent; those that are there already are not
	Bytes int64  `json:"bytes"`
}

// Push makes a drop available in the bucket: its files first, then MANIFEST.json,
// which commits it. A version that is there already stays as it is: with the same
// manifest only files that are missing are sent, with another one it is ErrOther.
func (b *Bucket) Push(ctx context.Context, root *os.Root) (Pushed, error) {
	drop, err := delta.OpenDrop(root)
	if err != nil {
		return Pushed{}, err
	}
	raw, err := root.ReadFile(delta.ManifestName)
	if err != nil {
		return Pushed{}, err
	}
	files := make([]part, 0, len(drop.Manifest.Files))
	defer func() {
		for _, f := range files {
			f.r.Close()
		}
	}()
	for _, f := range drop.Manifest.Files {
		r, err := drop.Open(f.Role)
		if err != nil {
			return Pushed{}, err
		}
		files = append(files, part{f, r})
	}
	return b.push(ctx, drop.Manifest, raw, files)
}

// part is an open file of a drop.
type part struct {
	delta.File

	r *os.File
}

// place is where a version stands below the prefix.
func place(mf *delta.Manifest) string {
	return path.Join(mf.Model, strconv.FormatUint(mf.Version, 10))
}

func (b *Bucket) push(ctx context.Context, mf *delta.Manifest, raw []byte, files []part) (p Pushed, err error) {
	at := place(mf)
	p.At = b.String() + at
	have, committed, err := b.present(ctx, at, raw)
	if err != nil {
		return p, err
	}
	for _, f := range files {
		if o, ok := have[f.Path]; ok && o.size == f.Size && committed {
			continue
		}
		if err := b.write(ctx, path.Join(at, f.Path), f.r, f.Size); err != nil {
			return p, err
		}
		p.Files++
		p.Bytes += f.Size
	}
	if committed {
		return p, nil
	}
	if err := b.write(ctx, path.Join(at, delta.ManifestName), bytes.NewReader(raw), int64(len(raw))); err != nil {
		return p, err
	}
	p.Files++
	p.Bytes += int64(len(raw))
	return p, nil
}

// present returns what stands at a version's place, by the paths in the drop, and
// whether the same manifest commits it; another one is ErrOther.
func (b *Bucket) present(ctx context.Context, at string, raw []byte) (files map[string]object, committed bool, err error) {
	list, err := b.listBelow(ctx, b.at.prefix+at+"/")
	if err != nil {
		return nil, false, err
	}
	files = make(map[string]object)
	for _, o := range list {
		files[o.key[len(b.at.prefix)+len(at)+1:]] = o
	}
	o, ok := files[delta.ManifestName]
	if !ok {
		return files, false, nil
	}
	there, err := b.readAll(ctx, o)
	if err != nil {
		return nil, false, err
	}
	if !bytes.Equal(there, raw) {
		return nil, false, fmt.Errorf("%s%s: %w: give the version a higher number", b, at, ErrOther)
	}
	return files, true, nil
}
