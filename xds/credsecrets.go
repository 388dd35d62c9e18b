package xds

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// secret finds what a reference means: a secret of the bootstrap if it has a name
// only, or one in a file that holds a DiscoveryResponse.
func (u upstreamTLS) secret(ref *tlsv3.SdsSecretConfig) (*tlsv3.Secret, error) {
	name, source := ref.GetName(), ref.GetSdsConfig()
	if source == nil {
		if u.secrets != nil {
			if s := u.secrets(name); s != nil {
				return s, nil
			}
		}
		return nil, fmt.Errorf("secret %q is not in static_resources.secrets, and has no sds_config", name)
	}
	path := source.GetPathConfigSource().GetPath()
	if path == "" {
		path = source.GetPath()
	}
	if path == "" {
		return nil, fmt.Errorf("secret %q: sds_config: a management stream takes secrets from files only: use path_config_source", name)
	}
	s, err := secretFile(path, name)
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", name, err)
	}
	return s, nil
}

// secretFile reads the named secret from a file in the format that its ending
// says.
func secretFile(path, name string) (*tlsv3.Secret, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r discoveryv3.DiscoveryResponse
	switch ext := filepath.Ext(path); ext {
	case ".yaml", ".yml":
		var doc any
		if err := yaml.Unmarshal(data, &doc); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if data, err = json.Marshal(doc); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, &r)
	case ".json":
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, &r)
	case ".pb":
		err = proto.Unmarshal(data, &r)
	default:
		return nil, fmt.Errorf("%s: ending %q: want .yaml, .yml, .json or .pb", path, ext)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is no DiscoveryResponse: %w", path, err)
	}
	var names []string
	for i, packed := range r.GetResources() {
		var s tlsv3.Secret
		if err := packed.UnmarshalTo(&s); err != nil {
			return nil, fmt.Errorf("%s: resources[%d]: %w", path, i, err)
		}
		if s.GetName() == name {
			return &s, nil
		}
		names = append(names, fmt.Sprintf("%q", s.GetName()))
	}
	return nil, fmt.Errorf("%s has no secret of this name, only: %s", path, strings.Join(names, ", "))
}
