package loader

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/oci"
)

// layout writes version n's drop as an image layout into the drops' directory,
// below name; base is the name of the layout of its base.
func (r *rig) layout(name string, version, base uint64, below string, change func(*delta.Pack)) {
	r.t.Helper()
	plain := filepath.Join(r.t.TempDir(), "plain")
	must(r.t, packInto(plain, r.shape, version, base, change))
	r.wrap(name, plain, below)
}

// wrap writes the plain drop at path as an image layout called name.
func (r *rig) wrap(name, plain, below string) {
	r.t.Helper()
	from, err := os.OpenRoot(plain)
	must(r.t, err)
	defer from.Close()
	dir := filepath.Join(r.drops, name)
	must(r.t, os.MkdirAll(dir, 0o755))
	to, err := os.OpenRoot(dir)
	must(r.t, err)
	defer to.Close()
	var under *oci.Layout
	if below != "" {
		under, err = oci.Parse(os.DirFS(filepath.Join(r.drops, below)))
		must(r.t, err)
	}
	_, err = oci.Write(r.t.Context(), from, to, under)
	must(r.t, err)
}

// Image layouts go through the same pipeline as plain drops: a full version, a
// delta on it, a patchless delta on a plain one; copied and in place; and they are
// there again after a restart.
func TestImageLayoutBecomesActive(t *testing.T) {
	for _, mode := range []Mode{Copy, InPlace} {
		t.Run(string(mode), func(t *testing.T) {
			w, err := Watch(filepath.Join(t.TempDir(), "drops"), 0)
			must(t, err)
			r := newRig(t, func(o *Options) { o.Source, o.Mode = w, mode })
			r.drops = w.dir
			r.layout("1", 1, 0, "", nil)
			r.await(EventActive, 1)
			r.serves(1)
			r.layout("2", 2, 1, "1", atOnce)
			r.await(EventActive, 2)
			r.serves(2)
			r.pack("3", 3, 2, atOnce)
			r.await(EventActive, 3)
			r.layout("4", 4, 0, "", atOnce)
			r.await(EventActive, 4)
			r.serves(4)
			r.await(EventDurable, 4)
			r.close()
			must(t, w.Close())
			r.opts.Source = nil
			r.open()
			r.serves(4)
			r.close()
		})
	}
}

// relayout reads a layout's image manifest, lets change edit it, and writes it and
// index.json anew, so that all digests but those of the change agree.
func relayout(tb testing.TB, dir string, change func(m *v1.Manifest, index *v1.Index)) {
	tb.Helper()
	read := func(name string, v any) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(tb, err)
		must(tb, json.Unmarshal(b, v))
	}
	var index v1.Index
	var m v1.Manifest
	read(oci.IndexName, &index)
	read(blobName(index.Manifests[0]), &m)
	change(&m, &index)
	put := putBlob(tb, dir, m)
	index.Manifests[0].Digest, index.Manifests[0].Size = put.Digest, put.Size
	b, err := json.Marshal(index)
	must(tb, err)
	must(tb, os.WriteFile(filepath.Join(dir, oci.IndexName), b, 0o644))
}

func blobName(d v1.Descriptor) string {
	return filepath.Join("blobs", d.Digest.Algorithm().String(), d.Digest.Encoded())
}

// putBlob writes a blob of v's JSON, or of v itself when it is bytes.
func putBlob(tb testing.TB, dir string, v any) v1.Descriptor {
	tb.Helper()
	b, ok := v.([]byte)
	if !ok {
		var err error
		b, err = json.Marshal(v)
		must(tb, err)
	}
	d := v1.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))}
	must(tb, os.WriteFile(filepath.Join(dir, blobName(d)), b, 0o644))
	return d
}

// reconfig changes the model configuration as text.
func reconfig(tb testing.TB, dir, old, next string) {
	tb.Helper()
	relayout(tb, dir, func(m *v1.Manifest, _ *v1.Index) {
		b, err := os.ReadFile(filepath.Join(dir, blobName(m.Config)))
		must(tb, err)
		changed := bytes.Replace(b, []byte(old), []byte(next), 1)
		if bytes.Equal(b, changed) {
			tb.Fatalf("%q is not in %s", old, b)
		}
		d := putBlob(tb, dir, changed)
		m.Config.Digest, m.Config.Size = d.Digest, d.Size
	})
}

// Every row leaves v1 serving, and the layout quarantined with the descriptor or
// the field that is at fault.
func TestBadImageLayout(t *testing.T) {
	change := func(f func(m *v1.Manifest, index *v1.Index)) func(r *rig, dir string) {
		return func(r *rig, dir string) { relayout(r.t, dir, f) }
	}
	layer := func(f func(d *v1.Descriptor)) func(r *rig, dir string) { // of the delta
		return change(func(m *v1.Manifest, _ *v1.Index) { f(&m.Layers[1]) })
	}
	large := bytes.Repeat([]byte(" "), 2<<20)
	for _, c := range []struct {
		name, want string
		harm       func(r *rig, dir string)
	}{
		{"a changed byte of a layer", "layers[1] (v5.qd): digest is sha256:", func(r *rig, dir string) {
			relayout(r.t, dir, func(m *v1.Manifest, _ *v1.Index) { flip(r.t, filepath.Join(dir, blobName(m.Layers[1])), -5) })
		}},
		{"a changed byte of MANIFEST.json", "layers[0].digest: is sha256:", func(r *rig, dir string) {
			relayout(r.t, dir, func(m *v1.Manifest, _ *v1.Index) { flip(r.t, filepath.Join(dir, blobName(m.Layers[0])), -3) })
		}},
		{"a changed byte of the image manifest", "index.json: manifests[0].digest: is sha256:", func(r *rig, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, oci.IndexName))
			must(r.t, err)
			var index v1.Index
			must(r.t, json.Unmarshal(b, &index))
			flip(r.t, filepath.Join(dir, blobName(index.Manifests[0])), -5)
		}},
		{"a changed byte of the config", "config.digest: is sha256:", func(r *rig, dir string) {
			relayout(r.t, dir, func(m *v1.Manifest, _ *v1.Index) { flip(r.t, filepath.Join(dir, blobName(m.Config)), 3) })
		}},
		{"a layer that is missing", "layers[1] (v5.qd): ", func(r *rig, dir string) {
			relayout(r.t, dir, func(m *v1.Manifest, _ *v1.Index) { must(r.t, os.Remove(filepath.Join(dir, blobName(m.Layers[1])))) })
		}},
		{"a config that is missing", "config: statat blobs/sha256/", func(r *rig, dir string) {
			relayout(r.t, dir, func(m *v1.Manifest, _ *v1.Index) { must(r.t, os.Remove(filepath.Join(dir, blobName(m.Config)))) })
		}},
		{"a layer that is cut off", "layers[1] (v5.qd): has 9000 bytes", func(r *rig, dir string) {
			relayout(r.t, dir, func(m *v1.Manifest, _ *v1.Index) {
				must(r.t, os.Truncate(filepath.Join(dir, blobName(m.Layers[1])), 9000))
			})
		}},
		{"a wrong size", "layers[1].size: is 9000, files[0] of MANIFEST.json says ", layer(func(d *v1.Descriptor) { d.Size = 9000 })},
		{"a negative size", "layers[1].size: is -1", layer(func(d *v1.Descriptor) { d.Size = -1 })},
		{"another digest than the manifest's", "layers[1].digest: is sha256:0000", layer(func(d *v1.Descriptor) {
			d.Digest = digest.Digest("sha256:" + strings.Repeat("0", 64))
		})},
		{"a digest that leads out", `layers[1].digest: "sha256:../../x": want sha256: and 64 hex digits`, layer(func(d *v1.Descriptor) { d.Digest = "sha256:../../x" })},
		{"another algorithm", "layers[1].digest: \"sha512:0000", layer(func(d *v1.Descriptor) {
			d.Digest = digest.Digest("sha512:" + strings.Repeat("0", 128))
		})},
		{"a tar", "layers[1].mediaType: \"application/vnd.cncf.model.weight.v1.tar\" is an archive", layer(func(d *v1.Descriptor) {
			d.MediaType = "application/vnd.cncf.model.weight.v1.tar"
		})},
		{"a tar with gzip", "v1.tar+gzip\" is an archive", layer(func(d *v1.Descriptor) { d.MediaType = "application/vnd.cncf.model.weight.v1.tar+gzip" })},
		{"a tar with zstd", "v1.tar+zstd\" is an archive", layer(func(d *v1.Descriptor) { d.MediaType = "application/vnd.cncf.model.weight.v1.tar+zstd" })},
		{"a container's layer", "v1.tar+gzip\" is an archive", layer(func(d *v1.Descriptor) { d.MediaType = v1.MediaTypeImageLayerGzip })},
		{"an unknown layer", `layers[1].mediaType: "application/x": want one of`, layer(func(d *v1.Descriptor) { d.MediaType = "application/x" })},
		{"a delta as weights", "layers[1].mediaType: is \"" + oci.WeightType + "\", files[0] of MANIFEST.json is a delta: want", layer(func(d *v1.Descriptor) {
			d.MediaType = oci.WeightType
		})},
		{"a path that leads out", `layers[1].annotations["org.cncf.model.filepath"]: "../v5.qd": want a plain relative path`, layer(func(d *v1.Descriptor) {
			d.Annotations[oci.FilepathKey] = "../v5.qd"
		})},
		{"no path", `layers[1].annotations["org.cncf.model.filepath"]: "": want a plain relative path`, layer(func(d *v1.Descriptor) { d.Annotations = nil })},
		{"a path that the manifest lacks", `"v6.qd" is no file of MANIFEST.json`, layer(func(d *v1.Descriptor) {
			d.Annotations[oci.FilepathKey] = "v6.qd"
		})},
		{"a layer twice", `layers[2].annotations["org.cncf.model.filepath"]: "v5.qd" is there twice`, change(func(m *v1.Manifest, _ *v1.Index) {
			m.Layers = append(m.Layers, m.Layers[1])
		})},
		{"no layer of a file", "layers: none has the annotation org.cncf.model.filepath: v5.qd", change(func(m *v1.Manifest, _ *v1.Index) {
			m.Layers = m.Layers[:1]
		})},
		{"no MANIFEST.json", "layers: none is application/vnd.quadnine.model.manifest.v1+json", change(func(m *v1.Manifest, _ *v1.Index) {
			m.Layers = m.Layers[1:]
		})},
		{"two MANIFEST.json", "layers[2].mediaType: " + oci.ManifestType + " is there twice", change(func(m *v1.Manifest, _ *v1.Index) {
			m.Layers = append(m.Layers, m.Layers[0])
		})},
		{"MANIFEST.json under another name", `layers[0].annotations["org.cncf.model.filepath"]: is "x", want "MANIFEST.json"`, change(func(m *v1.Manifest, _ *v1.Index) {
			m.Layers[0].Annotations[oci.FilepathKey] = "x"
		})},
		{"a MANIFEST.json that is none", "layers[0] (sha256:", func(r *rig, dir string) {
			relayout(r.t, dir, func(m *v1.Manifest, _ *v1.Index) {
				d := putBlob(r.t, dir, []byte(`{"model": 1}`))
				m.Layers[0].Digest, m.Layers[0].Size = d.Digest, d.Size
			})
		}},
		{"an oversize MANIFEST.json", "layers[0].size: is 2097152, at most 1048576 are read", func(r *rig, dir string) {
			relayout(r.t, dir, func(m *v1.Manifest, _ *v1.Index) {
				d := putBlob(r.t, dir, large)
				m.Layers[0].Digest, m.Layers[0].Size = d.Digest, d.Size
			})
		}},
		{"an oversize image manifest", "index.json: manifests[0].size: is ", change(func(m *v1.Manifest, _ *v1.Index) {
			m.Annotations = map[string]string{"x": strings.Repeat("x", 1<<20)}
		})},
		{"an oversize index", "index.json: has 2097152 bytes, at most 1048576 are read", func(r *rig, dir string) {
			must(r.t, os.WriteFile(filepath.Join(dir, oci.IndexName), large, 0o644))
		}},
		{"an index that is no JSON", "index.json: invalid character", func(r *rig, dir string) {
			must(r.t, os.WriteFile(filepath.Join(dir, oci.IndexName), []byte("x"), 0o644))
		}},
		{"another layout version", `oci-layout: imageLayoutVersion: is "2.0.0", want "1.0.0"`, func(r *rig, dir string) {
			must(r.t, os.WriteFile(filepath.Join(dir, oci.LayoutName), []byte(`{"imageLayoutVersion": "2.0.0"}`), 0o644))
		}},
		{"two manifests", "index.json: manifests[0] and manifests[1] are no base of one another", func(r *rig, dir string) {
			relayout(r.t, dir, func(_ *v1.Manifest, index *v1.Index) {
				d := putBlob(r.t, dir, v1.Manifest{})
				d.MediaType = v1.MediaTypeImageManifest
				index.Manifests = append(index.Manifests, d)
			})
		}},
		{"a second manifest that is missing", "index.json: manifests[1]: statat blobs/sha256/0000", change(func(_ *v1.Manifest, index *v1.Index) {
			index.Manifests = append(index.Manifests, index.Manifests[0])
			index.Manifests[1].Digest = digest.Digest("sha256:" + strings.Repeat("0", 64))
		})},
		{"too many manifests", "index.json: manifests: has 65, at most 64 are read", change(func(_ *v1.Manifest, index *v1.Index) {
			for len(index.Manifests) < 65 {
				index.Manifests = append(index.Manifests, index.Manifests[0])
			}
		})},
		{"no manifest yet", "index.json: manifests: the layout is still empty", func(r *rig, dir string) {
			must(r.t, os.WriteFile(filepath.Join(dir, oci.IndexName), []byte(`{"schemaVersion": 2, "manifests": []}`), 0o644))
		}},
		{"an index of indexes", "index.json: manifests[0].mediaType: is an index again", change(func(_ *v1.Manifest, index *v1.Index) {
			index.Manifests[0].MediaType = v1.MediaTypeImageIndex
		})},
		{"another manifest", "index.json: manifests[0].mediaType: is \"application/vnd.docker", change(func(_ *v1.Manifest, index *v1.Index) {
			index.Manifests[0].MediaType = "application/vnd.docker.distribution.manifest.v2+json"
		})},
		{"another artifact in the index", "index.json: manifests[0].artifactType: is \"x\"", change(func(_ *v1.Manifest, index *v1.Index) {
			index.Manifests[0].ArtifactType = "x"
		})},
		{"another index version", "index.json: schemaVersion: is 1, want 2", change(func(_ *v1.Manifest, index *v1.Index) { index.SchemaVersion = 1 })},
		{"an index of another type", "index.json: mediaType: is \"x\"", change(func(_ *v1.Manifest, index *v1.Index) { index.MediaType = "x" })},
		{"another artifact", ": artifactType: is \"\", want \"" + oci.ArtifactType, change(func(m *v1.Manifest, _ *v1.Index) { m.ArtifactType = "" })},
		{"another manifest version", ": schemaVersion: is 1, want 2", change(func(m *v1.Manifest, _ *v1.Index) { m.SchemaVersion = 1 })},
		{"a manifest of another type", ": mediaType: is \"x\"", change(func(m *v1.Manifest, _ *v1.Index) { m.MediaType = "x" })},
		{"a container's config", ": config.mediaType: is \"application/vnd.oci.image.config.v1+json\"", change(func(m *v1.Manifest, _ *v1.Index) {
			m.Config.MediaType = v1.MediaTypeImageConfig
		})},
		{"another model in the config", "descriptor.name: is \"other\", MANIFEST.json says \"score\"", func(r *rig, dir string) {
			reconfig(r.t, dir, `"name":"score"`, `"name":"other"`)
		}},
		{"another version in the config", "descriptor.version: is \"6\", MANIFEST.json says 5", func(r *rig, dir string) {
			reconfig(r.t, dir, `"version":"5"`, `"version":"6"`)
		}},
		{"another kind of modelfs", "modelfs.type: is \"x\"", func(r *rig, dir string) { reconfig(r.t, dir, `"layers"`, `"x"`) }},
		{"another diffId", "modelfs.diffIds[0]: is \"sha256:", func(r *rig, dir string) { reconfig(r.t, dir, `"diffIds":["sha256:`, `"diffIds":["sha256:0`) }},
		{"no diffIds", "modelfs.diffIds: has 0, the image manifest 2 layers", func(r *rig, dir string) { reconfig(r.t, dir, `"diffIds"`, `"diff_ids"`) }},
		{"no subject", ": subject: is missing: MANIFEST.json is made for version 1", change(func(m *v1.Manifest, _ *v1.Index) { m.Subject = nil })},
		{"another subject", "subject.digest: is sha256:e3b0", change(func(m *v1.Manifest, _ *v1.Index) { m.Subject.Digest = digest.FromString("") })},
		{"a subject that is no manifest", "subject.mediaType: is \"x\"", change(func(m *v1.Manifest, _ *v1.Index) { m.Subject.MediaType = "x" })},
		{"a subject of another kind", "subject.artifactType: is \"x\"", change(func(m *v1.Manifest, _ *v1.Index) { m.Subject.ArtifactType = "x" })},
		{"a plain drop as well", "holds MANIFEST.json and oci-layout", func(r *rig, dir string) {
			must(r.t, os.WriteFile(filepath.Join(dir, delta.ManifestName), []byte("{}"), 0o644))
		}},
		{"a blob that leads out", "leads out of the drop", func(r *rig, dir string) {
			relayout(r.t, dir, func(m *v1.Manifest, _ *v1.Index) {
				name := filepath.Join(dir, blobName(m.Layers[1]))
				out := filepath.Join(r.t.TempDir(), "blob")
				must(r.t, os.Rename(name, out))
				must(r.t, os.Symlink(out, name))
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.prompt = true })
			defer r.close()
			r.shape = tiny
			r.layout("1", 1, 0, "", nil)
			r.report("1")
			r.await(EventActive, 1)
			r.layout("5", 5, 1, "1", atOnce)
			c.harm(r, filepath.Join(r.drops, "5"))
			r.report("5")
			reason := ""
			for reason == "" {
				if ev := <-r.l.Events(); ev.Kind == EventQuarantined {
					reason = ev.Reason
				} else if ev.Version == 5 {
					t.Fatalf("%+v", ev)
				}
			}
			if !strings.Contains(reason, c.want) {
				t.Errorf("quarantined for %q, want %q", reason, c.want)
			}
			r.serves(1)
		})
	}
}

// Some tools copy the base of a delta along, as a manifest of its own: the drop is
// the one that is no other's base.
func TestImageLayoutWithItsBase(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.shape = tiny
	r.layout("1", 1, 0, "", nil)
	r.report("1")
	r.await(EventActive, 1)
	r.layout("2", 2, 1, "1", atOnce)
	below := filepath.Join(r.drops, "1")
	relayout(t, filepath.Join(r.drops, "2"), func(m *v1.Manifest, index *v1.Index) {
		index.Manifests = append(index.Manifests, *m.Subject)
		b, err := os.ReadFile(filepath.Join(below, blobName(*m.Subject)))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(r.drops, "2", blobName(*m.Subject)), b, 0o644))
	})
	r.report("2")
	r.await(EventActive, 2)
	r.serves(2)
}

// A full layout has no base, so it has no subject.
func TestFullImageLayoutHasNoSubject(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.shape = tiny
	r.layout("1", 1, 0, "", nil)
	relayout(t, filepath.Join(r.drops, "1"), func(m *v1.Manifest, _ *v1.Index) { m.Subject = new(m.Config) })
	r.report("1")
	for ev := range r.l.Events() {
		if ev.Kind == EventQuarantined {
			if !strings.Contains(ev.Reason, "subject: is sha256:") || !strings.Contains(ev.Reason, "but MANIFEST.json has no base") {
				t.Errorf("quarantined for %q", ev.Reason)
			}
			return
		}
	}
}
