package bootstrap

import (
	"errors"
	"fmt"
	"os"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/structpb"
)

// Options say where a bootstrap comes from. One of Path and YAML is set, or
// both: then the fields of YAML are merged over those of the file.
type Options struct {
	Path   string // --config-path; YAML or JSON
	YAML   string // --config-yaml
	Strict bool   // refuse what would be warned about

	// What the command line says of the node, over what the file says.
	ServiceNode, ServiceCluster, ServiceZone string
}

// Bootstrap is what a bootstrap file comes to.
type Bootstrap struct {
	Node  *corev3.Node // never nil
	Admin string       // "host:port" or "unix:/path"; "" without an admin block
	ADS   *ADS         // nil: no management server
	LDS   *Source      // nil: listeners are static only
	CDS   *Source      // nil: clusters are static only

	Clusters  []*clusterv3.Cluster
	Listeners []*listenerv3.Listener
	Secrets   map[string]*tlsv3.Secret
	Layers    []Layer // the lowest first
	Overload  Overload

	Strict   bool // as in Options: what is not supported is to be refused
	Warnings []Warning
	Message  *bootstrapv3.Bootstrap // as read, for /config_dump
}

// ADS is the aggregated stream.
type ADS struct {
	Delta           bool // DELTA_GRPC
	Services        []*corev3.GrpcService
	NodeOnFirstOnly bool
}

// Source is where listeners or clusters come from.
type Source struct {
	ADS          bool
	Path         string        // path_config_source: a file with a DiscoveryResponse
	FetchTimeout time.Duration // initial_fetch_timeout; 0: for ever
}

// Layer is one of layered_runtime's.
type Layer struct {
	Name   string
	Static *structpb.Struct // nil for the other kinds
	Admin  bool
	RTDS   string // the resource's name
	// FetchTimeout is rtds_config.initial_fetch_timeout; 0: for ever.
	FetchTimeout time.Duration
}

// Identified says what is missing of the node when a management server is to know
// it: as Envoy, a sidecar without an id and a cluster asks for nothing.
func (b *Bootstrap) Identified() error {
	if b.ADS != nil && (b.Node.GetId() == "" || b.Node.GetCluster() == "") {
		return errors.New("bootstrap: dynamic_resources.ads_config: node.id and node.cluster are required: set both, or use --service-node and --service-cluster")
	}
	return nil
}

// Warning is something in the file that has no effect.
type Warning struct {
	Where string // file:line
	Path  string // the field
	What  string
}

// String returns the warning as a line of text.
func (w Warning) String() string { return w.Where + ": " + w.Path + " " + w.What }

// Load reads and checks a bootstrap. The error joins all that is wrong.
func Load(o Options) (*Bootstrap, error) {
	var (
		m        = new(bootstrapv3.Bootstrap)
		warnings []Warning
		errs     []error
	)
	read := func(name string, data []byte) {
		d := document{name: name}
		js, err := d.toJSON(data, m.ProtoReflect().Descriptor())
		warnings = append(warnings, d.warnings...)
		if err != nil {
			errs = append(errs, err)
			return
		}
		part := new(bootstrapv3.Bootstrap)
		if err := (protojson.UnmarshalOptions{Resolver: protoregistry.GlobalTypes}).Unmarshal(js, part); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s", name, protoError(err)))
			return
		}
		proto.Merge(m, part)
	}
	if o.Path != "" {
		data, err := os.ReadFile(o.Path)
		if err != nil {
			return nil, fmt.Errorf("bootstrap: %w", err)
		}
		read(o.Path, data)
	}
	if o.YAML != "" {
		read("--config-yaml", []byte(o.YAML))
	}
	if o.Path == "" && o.YAML == "" {
		return nil, errors.New("bootstrap: neither a file nor YAML was given: use -c FILE or --config-yaml")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	b := &Bootstrap{Node: m.GetNode(), Secrets: make(map[string]*tlsv3.Secret), Strict: o.Strict, Warnings: warnings, Message: m}
	if b.Node == nil {
		b.Node = new(corev3.Node)
	}
	b.name(o)
	errs = append(errs, b.fill(m)...)
	if o.Strict {
		for _, w := range b.Warnings {
			errs = append(errs, fmt.Errorf("%v (refused because of --strict)", w))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return b, nil
}

// name puts what the command line says of the node over the file.
func (b *Bootstrap) name(o Options) {
	if o.ServiceNode != "" {
		b.Node.Id = o.ServiceNode
	}
	if o.ServiceCluster != "" {
		b.Node.Cluster = o.ServiceCluster
	}
	if o.ServiceZone != "" {
		if b.Node.Locality == nil {
			b.Node.Locality = new(corev3.Locality)
		}
		b.Node.Locality.Zone = o.ServiceZone
	}
}
