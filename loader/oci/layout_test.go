package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quadnine/quadnine/loader/delta"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// model is a version's safetensors file, of two pages and a half.
func model(tb testing.TB, version byte) *bytes.Reader {
	tb.Helper()
	data := bytes.Repeat([]byte{1}, 3*delta.PageSize)
	data[5000] = version
	var b bytes.Buffer
	must(tb, delta.WriteSafetensors(&b, []delta.TensorBytes{{Name: "w", DType: "U8", Shape: []int64{int64(len(data))}, Data: data}}))
	return bytes.NewReader(b.Bytes())
}

// drops writes a drop of version 1, and one of version 2 as a delta on it and as a
// full file.
func drops(tb testing.TB) (full, patch *os.Root) {
	tb.Helper()
	open := func() *os.Root {
		root, err := os.OpenRoot(tb.TempDir())
		must(tb, err)
		tb.Cleanup(func() { _ = root.Close() })
		return root
	}
	full, patch = open(), open()
	p := delta.Pack{Manifest: delta.Manifest{Model: "score", Version: 1, SchemaVersion: 1}}
	_, err := p.Full(tb.Context(), full, model(tb, 1))
	must(tb, err)
	p.Manifest.Version = 2
	_, _, err = p.Delta(tb.Context(), patch, 1, model(tb, 1), model(tb, 2), true)
	must(tb, err)
	return full, patch
}

// written writes a drop as a layout and returns it, as files and parsed.
func written(tb testing.TB, from *os.Root, base *Layout) (fstest.MapFS, *Layout) {
	tb.Helper()
	dir := tb.TempDir()
	to, err := os.OpenRoot(dir)
	must(tb, err)
	defer to.Close()
	image, err := Write(tb.Context(), from, to, base)
	must(tb, err)
	l, err := Parse(to.FS())
	must(tb, err)
	if l.Image.Digest != image.Digest {
		tb.Errorf("wrote %s, read %s", image.Digest, l.Image.Digest)
	}
	return files(tb, dir), l
}

func files(tb testing.TB, dir string) fstest.MapFS {
	tb.Helper()
	out := make(fstest.MapFS)
	must(tb, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		out[filepath.ToSlash(rel)] = &fstest.MapFile{Data: b}
		return err
	}))
	return out
}

// A layout has the same bytes each time, and says of each file where it lies.
func TestLayoutIsTheSameEachTime(t *testing.T) {
	full, patch := drops(t)
	one, l1 := written(t, full, nil)
	two, l2 := written(t, patch, l1)
	if !Is(one) || l1.Subject != "" || l2.Subject != l1.Image.Digest.String() || l2.Manifest.Version != 2 {
		t.Errorf("%+v\n%+v", l1, l2)
	}
	for _, again := range []struct {
		from *os.Root
		base *Layout
		want fstest.MapFS
	}{{full, nil, one}, {patch, l1, two}} {
		got, _ := written(t, again.from, again.base)
		if !maps.EqualFunc(got, again.want, func(a, b *fstest.MapFile) bool { return bytes.Equal(a.Data, b.Data) }) {
			t.Errorf("%v\nwant %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(again.want)))
		}
	}
	for _, f := range l2.Manifest.Files {
		b := l2.Blob(f.Path)
		if want, _ := fs.ReadFile(patch.FS(), f.Path); b.Path != "blobs/sha256/"+f.SHA256 || !bytes.Equal(two[b.Path].Data, want) {
			t.Errorf("%s lies at %+v", f.Path, b)
		}
	}
	if raw, _ := fs.ReadFile(patch.FS(), delta.ManifestName); !bytes.Equal(raw, l2.Raw) {
		t.Error("MANIFEST.json was changed")
	}
}

// A layout that cannot be written leaves nothing but empty folders.
func TestFailedWriteLeavesNothing(t *testing.T) {
	full, patch := drops(t)
	_, l1 := written(t, full, nil)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	f, err := patch.OpenFile("v2.qd", os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.Write([]byte{1})
	must(t, errors.Join(err, f.Close()))
	for _, c := range []struct {
		ctx  context.Context //nolint:containedctx // a row of a table
		from *os.Root
		base *Layout
		want string
	}{
		{t.Context(), patch, l1, "v2.qd: has "},
		{t.Context(), patch, nil, "base: is missing"},
		{t.Context(), full, l1, "base: is given"},
		{stopped, full, nil, "context canceled"},
	} {
		dir := t.TempDir()
		to, err := os.OpenRoot(dir)
		must(t, err)
		if _, err = Write(c.ctx, c.from, to, c.base); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
		must(t, to.Close())
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("%q left %v", c.want, slices.Sorted(maps.Keys(left)))
		}
	}
}

// refer stores a blob and writes its digest and size where text says @name.
func refer(dir fstest.MapFS, text []byte, name string, blob []byte) []byte {
	d := digest.FromBytes(blob)
	dir["blobs/sha256/"+d.Encoded()] = &fstest.MapFile{Data: blob}
	text = bytes.ReplaceAll(text, []byte("@"+name), fmt.Appendf(nil, `"digest":%q,"size":%d`, d, len(blob)))
	return bytes.ReplaceAll(text, []byte("#"+name), []byte(d))
}

// named is the inverse of refer.
func named(text []byte, name string, blob []byte) []byte {
	d := digest.FromBytes(blob)
	text = bytes.ReplaceAll(text, fmt.Appendf(nil, `"digest":%q,"size":%d`, d, len(blob)), []byte("@"+name))
	return bytes.ReplaceAll(text, []byte(d), []byte("#"+name))
}

// FuzzLayout: whatever the small texts of a layout are, Parse returns an error or
// a layout whose files it can name; it never panics. The digests by which the
// texts refer to one another are filled in: else no change would get past them.
func FuzzLayout(f *testing.F) {
	full, patch := drops(f)
	one, l1 := written(f, full, nil)
	two, l2 := written(f, patch, l1)
	for _, l := range []struct {
		files fstest.MapFS
		*Layout
	}{{one, l1}, {two, l2}} {
		blob := func(d v1.Descriptor) []byte { return l.files["blobs/sha256/"+d.Digest.Encoded()].Data }
		image := blob(l.Image)
		var m v1.Manifest
		must(f, json.Unmarshal(image, &m))
		about := blob(m.Config)
		f.Add(l.files[LayoutName].Data, named(l.files[IndexName].Data, "image", image),
			named(named(image, "config", about), "manifest", l.Raw), named(about, "manifest", l.Raw), l.Raw)
	}
	f.Fuzz(func(t *testing.T, layout, index, image, about, manifest []byte) {
		dir := fstest.MapFS{LayoutName: {Data: layout}}
		about = refer(dir, about, "manifest", manifest)
		image = refer(dir, refer(dir, image, "config", about), "manifest", manifest)
		dir[IndexName] = &fstest.MapFile{Data: refer(dir, index, "image", image)}
		l, err := Parse(dir)
		if err != nil {
			if l != nil || !strings.Contains(err.Error(), ": ") {
				t.Errorf("%v, %v: want no layout, and an error that says where", l, err)
			}
			return
		}
		for _, file := range l.Manifest.Files {
			if b := l.Blob(file.Path); b.Path != "blobs/sha256/"+file.SHA256 || b.At == "" {
				t.Errorf("%s lies at %+v", file.Path, b)
			}
		}
		if (l.Subject == "") != (l.Manifest.Base == nil) {
			t.Errorf("subject %q, base %+v", l.Subject, l.Manifest.Base)
		}
	})
}
