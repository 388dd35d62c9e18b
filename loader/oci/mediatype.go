package oci

import (
	"fmt"
	"strings"

	"github.com/quadnine/quadnine/loader/delta"
)

// Media types and annotations: docs/spec.md and docs/annotations.md of
// github.com/modelpack/model-spec, and our own.
const (
	ArtifactType = "application/vnd.cncf.model.manifest.v1+json"
	ConfigType   = "application/vnd.cncf.model.config.v1+json"
	WeightType   = "application/vnd.cncf.model.weight.v1.raw"
	ManifestType = "application/vnd.quadnine.model.manifest.v1+json" // MANIFEST.json
	DeltaType    = "application/vnd.quadnine.model.delta.v1"         // a .qd file
	BSDiff4Type  = "application/vnd.quadnine.model.patch.bsdiff4.v1"
	ZstdType     = "application/vnd.quadnine.model.patch.zstd.v1"

	FilepathKey = "org.cncf.model.filepath" // annotation of a layer: the file's path in the drop
)

// layerTypes are the media types of a drop's files.
var layerTypes = map[delta.Role]string{
	delta.RoleFull: WeightType, delta.RoleDelta: DeltaType, delta.RoleBSDiff4: BSDiff4Type, delta.RoleZstdPatch: ZstdType,
}

// checkLayerType refuses what no file of a drop is.
func checkLayerType(t string) error {
	if t == ManifestType {
		return nil
	}
	for _, known := range layerTypes {
		if t == known {
			return nil
		}
	}
	if base, _, _ := strings.Cut(t, "+"); strings.HasSuffix(base, ".tar") || strings.HasSuffix(base, ".tar.gzip") {
		return fmt.Errorf("%q is an archive: it would have to be unpacked before any of it can be mapped; ship the file itself, as %s", t, WeightType)
	}
	return fmt.Errorf("%q: want one of %s, %s, %s, %s, %s", t, ManifestType, WeightType, DeltaType, BSDiff4Type, ZstdType)
}
