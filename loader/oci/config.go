package oci

import (
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// config is ModelPack's model configuration (docs/config.md of the
// specification), as far as it has to agree with MANIFEST.json. The rest is for
// people.
type config struct {
	Descriptor struct {
		Name    string `json:"name,omitempty"`
		Version string `json:"version,omitempty"`
	} `json:"descriptor"`
	Config struct {
		Format string `json:"format,omitempty"`
	} `json:"config"`
	ModelFS struct {
		Type    string          `json:"type"`
		DiffIDs []digest.Digest `json:"diffIds"`
	} `json:"modelfs"`
}

// config reads the model's configuration and holds it against the layers and
// MANIFEST.json.
func (p *parser) config(m *v1.Manifest) error {
	var c config
	if err := p.blob("config", m.Config, &c, nil); err != nil {
		return err
	}
	mf := p.l.Manifest
	fail := func(format string, args ...any) error {
		return fmt.Errorf("config ("+short(m.Config)+"): "+format, args...)
	}
	if name := c.Descriptor.Name; name != "" && name != mf.Model {
		return fail("descriptor.name: is %q, MANIFEST.json says %q", name, mf.Model)
	}
	if v, want := c.Descriptor.Version, strconv.FormatUint(mf.Version, 10); v != "" && v != want {
		return fail("descriptor.version: is %q, MANIFEST.json says %s", v, want)
	}
	if c.ModelFS.Type != "layers" {
		return fail("modelfs.type: is %q, want \"layers\"", c.ModelFS.Type)
	}
	if n := len(c.ModelFS.DiffIDs); n != len(m.Layers) {
		return fail("modelfs.diffIds: has %d, the image manifest %d layers", n, len(m.Layers))
	}
	for i, id := range c.ModelFS.DiffIDs { // raw layers: as they are is as they are unpacked
		if id != m.Layers[i].Digest {
			return fail("modelfs.diffIds[%d]: is %q, layers[%d].digest %s", i, id, i, m.Layers[i].Digest)
		}
	}
	return nil
}
