package loader

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
)

// after is a file that tells of what was written to it.
type after struct {
	file

	wrote func(n int)
}

func (a after) Write(p []byte) (int, error) {
	n, err := a.file.Write(p)
	a.wrote(n)
	return n, err
}

// A drop's directory is deleted when the first of several reads of its file was
// copied. A file that is open can be read to its end, but nobody wants the drop any
// more: it is put aside, whatever of it was still to be opened.
func TestDirectoryDeletedWhileItIsCopied(t *testing.T) {
	key, err := delta.GenerateKey()
	must(t, err)
	for _, c := range []struct {
		name string
		keys []*delta.PublicKey
		pack func(r *rig, dir string) error
	}{
		{"one file", nil, func(r *rig, dir string) error {
			return packInto(dir, r.shape, 5, 0, atOnce)
		}},
		{"signed over a file that is read later", []*delta.PublicKey{key.Public()}, func(r *rig, dir string) error {
			return packSigned(dir, r.shape, 5, 4, key) // v4 is not here: the full file is used
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.Keys = c.keys })
			defer r.close()
			signed := func(p *delta.Pack) { atOnce(p); p.Key = key }
			r.drop(1, 0, signed)
			r.await(EventActive, 1)
			r.quiesce()

			dir := filepath.Join(r.drops, "v5")
			must(t, c.pack(r, dir))
			create, copied, before := r.l.store.create, 0, 0
			r.l.store.create = func(name string) (file, error) {
				f, err := create(name)
				if filepath.Base(name) != blobFile {
					return f, err
				}
				return after{f, func(n int) {
					if copied == 0 {
						before = n
						if err := os.RemoveAll(dir); err != nil {
							t.Error(err)
						}
					}
					copied += n
				}}, err
			}
			r.report("v5")
			ev := r.await(EventQuarantined, 5)
			if q := quarantineOf(r.l, "v5"); q == nil || !errors.Is(q.Reason, os.ErrNotExist) {
				t.Errorf("quarantined for %q: %+v, want %v", ev.Reason, q, os.ErrNotExist)
			}
			if q := r.l.Quarantined(); len(q) != 1 || q[0].Drop != "v5" || q[0].Version != 5 || q[0].Reason != ev.Reason {
				t.Errorf("/models would show %+v", q)
			}
			r.serves(1)
			r.settled()
			if whole := len(r.shape.file(5)); before == 0 || before >= whole || copied != whole {
				t.Errorf("deleted after %d of %d bytes, %d copied", before, whole, copied)
			}
			r.noOrphans()
			if left := folders(t, r.opts.Store); left != "models/score/1" {
				t.Errorf("in the store: %s", left)
			}
			r.l.store.create = create

			// A restart finds the same, and the next drop passes.
			r.close()
			r.open()
			r.serves(1)
			r.drop(6, 0, signed)
			r.await(EventActive, 6)
			r.serves(6)
			r.settled()
			r.noOrphans()
		})
	}
}

// packSigned writes a signed drop with a delta and a full file.
func packSigned(dir string, s shape, version, base uint64, key *delta.PrivateKey) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer closeRoot(root)
	p := &delta.Pack{Key: key, Manifest: delta.Manifest{Model: "score", Version: version, SchemaVersion: 1, Canary: &delta.Canary{}}}
	_, _, err = p.Delta(context.Background(), root, base, bytes.NewReader(s.file(base)), bytes.NewReader(s.file(version)), true)
	return err
}
