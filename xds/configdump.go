package xds

import (
	"errors"
	"fmt"
	"slices"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/quadnine/quadnine/xds/compile"
)

// dumpSections are the parts of a configuration dump that `resource` can name, as
// in Envoy.
var dumpSections = []string{
	"bootstrap",
	"static_clusters", "dynamic_active_clusters", "dynamic_warming_clusters",
	"static_listeners", "dynamic_listeners",
	"static_route_configs", "dynamic_route_configs",
	"static_endpoint_configs", "dynamic_endpoint_configs",
	"static_secrets", "dynamic_active_secrets", "dynamic_warming_secrets",
}

// ConfigDump returns what is in force as Envoy's /config_dump says it, as JSON.
// Endpoints are part of it when endpoints is set. A section limits it to one of
// Envoy's repeated fields, such as "dynamic_listeners".
func (a *Applier) ConfigDump(boot *bootstrapv3.Bootstrap, endpoints bool, section string) ([]byte, error) {
	if section != "" && !slices.Contains(dumpSections, section) {
		return nil, fmt.Errorf("resource %q is not known: use one of %v", section, dumpSections)
	}
	d := dump{only: section}
	d.add("bootstrap", &adminv3.BootstrapConfigDump{Bootstrap: proto.CloneOf(boot), LastUpdated: timestamppb.New(a.began)})
	d.clusters(a)
	d.listeners(a)
	d.routes(a)
	d.secrets(a)
	if endpoints {
		d.endpoints(a)
	}
	if d.err != nil {
		return nil, d.err
	}
	all := &adminv3.ConfigDump{Configs: d.out}
	compile.Redact(all.ProtoReflect())
	return protojson.MarshalOptions{Multiline: true, Indent: " ", UseProtoNames: true, Resolver: typesOrNot{protoregistry.GlobalTypes}}.Marshal(all)
}

// typesOrNot shows an Any of a type that is not known with its type alone: Redact has
// taken what it held.
type typesOrNot struct{ *protoregistry.Types }

// FindMessageByURL implements protojson.MarshalOptions.Resolver.
func (t typesOrNot) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	m, err := t.Types.FindMessageByURL(url)
	if errors.Is(err, protoregistry.NotFound) {
		return new(emptypb.Empty).ProtoReflect().Type(), nil
	}
	return m, err
}

// dump gathers the parts.
type dump struct {
	only string
	out  []*anypb.Any
	err  error
}

// wants reports whether a section is asked for.
func (d *dump) wants(section string) bool { return d.only == "" || d.only == section }

// add packs a part; with a section it stands alone.
func (d *dump) add(section string, m proto.Message) {
	if !d.wants(section) {
		return
	}
	part, err := anypb.New(m)
	if err != nil {
		d.err = err
		return
	}
	d.out = append(d.out, part)
}

// part is a resource packed, with when it was updated.
func (d *dump) part(kind Kind, r AcceptedResource) (*anypb.Any, *timestamppb.Timestamp) {
	return packed(kind, r.Body), timestamppb.New(r.Updated)
}

func packed(kind Kind, body []byte) *anypb.Any {
	return &anypb.Any{TypeUrl: kind.TypeURL(), Value: body}
}

// failure says why newer bytes of r were refused, or is nil. Envoy leaves it out.
func failure(r AcceptedResource, kind Kind) *adminv3.UpdateFailureState {
	if r.Refused == nil {
		return nil
	}
	return &adminv3.UpdateFailureState{FailedConfiguration: packed(kind, r.Refused), Details: r.Error}
}

func (d *dump) clusters(a *Applier) {
	out := &adminv3.ClustersConfigDump{VersionInfo: a.Version(KindCluster)}
	for _, r := range a.Accepted(KindCluster) {
		body, at := d.part(KindCluster, r)
		switch c := (&adminv3.ClustersConfigDump_DynamicCluster{VersionInfo: r.Version, Cluster: body, LastUpdated: at, ErrorState: failure(r, KindCluster)}); {
		case r.Static:
			out.StaticClusters = append(out.StaticClusters, &adminv3.ClustersConfigDump_StaticCluster{Cluster: body, LastUpdated: at})
		case r.Warming:
			out.DynamicWarmingClusters = append(out.DynamicWarmingClusters, c)
			if b := r.Before; b != nil {
				out.DynamicActiveClusters = append(out.DynamicActiveClusters, &adminv3.ClustersConfigDump_DynamicCluster{VersionInfo: b.Version, Cluster: packed(KindCluster, b.Body), LastUpdated: timestamppb.New(b.Updated)})
			}
		default:
			out.DynamicActiveClusters = append(out.DynamicActiveClusters, c)
		}
	}
	if d.only == "" {
		d.add("", out)
		return
	}
	for _, c := range out.GetStaticClusters() {
		d.add("static_clusters", c)
	}
	for _, c := range out.GetDynamicActiveClusters() {
		d.add("dynamic_active_clusters", c)
	}
	for _, c := range out.GetDynamicWarmingClusters() {
		d.add("dynamic_warming_clusters", c)
	}
}

func (d *dump) listeners(a *Applier) {
	out := &adminv3.ListenersConfigDump{VersionInfo: a.Version(KindListener)}
	for _, r := range a.Accepted(KindListener) {
		body, at := d.part(KindListener, r)
		if r.Static {
			out.StaticListeners = append(out.StaticListeners, &adminv3.ListenersConfigDump_StaticListener{Listener: body, LastUpdated: at})
			continue
		}
		state := &adminv3.ListenersConfigDump_DynamicListenerState{VersionInfo: r.Version, Listener: body, LastUpdated: at}
		l := &adminv3.ListenersConfigDump_DynamicListener{Name: r.Name, ActiveState: state, ErrorState: failure(r, KindListener)}
		if r.Warming {
			l.ActiveState, l.WarmingState = nil, state
			if b := r.Before; b != nil {
				l.ActiveState = &adminv3.ListenersConfigDump_DynamicListenerState{VersionInfo: b.Version, Listener: packed(KindListener, b.Body), LastUpdated: timestamppb.New(b.Updated)}
			}
		}
		out.DynamicListeners = append(out.DynamicListeners, l)
	}
	if d.only == "" {
		d.add("", out)
		return
	}
	for _, l := range out.GetStaticListeners() {
		d.add("static_listeners", l)
	}
	for _, l := range out.GetDynamicListeners() {
		d.add("dynamic_listeners", l)
	}
}

func (d *dump) routes(a *Applier) {
	out := new(adminv3.RoutesConfigDump)
	for _, r := range a.Accepted(KindRoutes) {
		body, at := d.part(KindRoutes, r)
		out.DynamicRouteConfigs = append(out.DynamicRouteConfigs, &adminv3.RoutesConfigDump_DynamicRouteConfig{VersionInfo: r.Version, RouteConfig: body, LastUpdated: at, ErrorState: failure(r, KindRoutes)})
	}
	if d.only == "" {
		d.add("", out)
		return
	}
	for _, r := range out.GetDynamicRouteConfigs() {
		d.add("dynamic_route_configs", r)
	}
}

// secrets are shown without their keys, as everything here is.
func (d *dump) secrets(a *Applier) {
	out := new(adminv3.SecretsConfigDump)
	for _, r := range a.Accepted(KindSecret) {
		body, at := d.part(KindSecret, r)
		if r.Static {
			out.StaticSecrets = append(out.StaticSecrets, &adminv3.SecretsConfigDump_StaticSecret{Name: r.Name, LastUpdated: at, Secret: body})
			continue
		}
		out.DynamicActiveSecrets = append(out.DynamicActiveSecrets, &adminv3.SecretsConfigDump_DynamicSecret{Name: r.Name, VersionInfo: r.Version, LastUpdated: at, Secret: body, ErrorState: failure(r, KindSecret)})
	}
	for _, name := range a.awaitedSecrets() {
		out.DynamicWarmingSecrets = append(out.DynamicWarmingSecrets, &adminv3.SecretsConfigDump_DynamicSecret{Name: name})
	}
	if d.only == "" {
		d.add("", out)
		return
	}
	for _, s := range out.GetStaticSecrets() {
		d.add("static_secrets", s)
	}
	for _, s := range out.GetDynamicActiveSecrets() {
		d.add("dynamic_active_secrets", s)
	}
	for _, s := range out.GetDynamicWarmingSecrets() {
		d.add("dynamic_warming_secrets", s)
	}
}

func (d *dump) endpoints(a *Applier) {
	out := new(adminv3.EndpointsConfigDump)
	for _, r := range a.Accepted(KindEndpoints) {
		body, at := d.part(KindEndpoints, r)
		out.DynamicEndpointConfigs = append(out.DynamicEndpointConfigs, &adminv3.EndpointsConfigDump_DynamicEndpointConfig{VersionInfo: r.Version, EndpointConfig: body, LastUpdated: at, ErrorState: failure(r, KindEndpoints)})
	}
	if d.only == "" {
		d.add("", out)
		return
	}
	for _, e := range out.GetDynamicEndpointConfigs() {
		d.add("dynamic_endpoint_configs", e)
	}
}
