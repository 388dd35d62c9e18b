package control

import (
	"errors"
	"fmt"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quadnine/quadnine/xds/compile"
)

// Dump returns a group's resources as /config_dump of Envoy writes them: without
// keys.
func (g *Group) Dump() (*adminv3.ConfigDump, error) {
	var (
		clusters  = new(adminv3.ClustersConfigDump)
		endpoints = new(adminv3.EndpointsConfigDump)
		listeners = new(adminv3.ListenersConfigDump)
		routes    = new(adminv3.RoutesConfigDump)
		secrets   = new(adminv3.SecretsConfigDump)
		out       = new(adminv3.ConfigDump)
	)
	for _, k := range Kinds() {
		for _, r := range g.Resources(k) {
			a := &anypb.Any{TypeUrl: k.TypeURL(), Value: r.Body}
			switch k {
			case Clusters:
				clusters.DynamicActiveClusters = append(clusters.DynamicActiveClusters, &adminv3.ClustersConfigDump_DynamicCluster{VersionInfo: r.Version, Cluster: a})
			case Endpoints:
				endpoints.DynamicEndpointConfigs = append(endpoints.DynamicEndpointConfigs, &adminv3.EndpointsConfigDump_DynamicEndpointConfig{VersionInfo: r.Version, EndpointConfig: a})
			case Listeners:
				listeners.DynamicListeners = append(listeners.DynamicListeners, &adminv3.ListenersConfigDump_DynamicListener{
					Name: r.Name, ActiveState: &adminv3.ListenersConfigDump_DynamicListenerState{VersionInfo: r.Version, Listener: a},
				})
			case Routes:
				routes.DynamicRouteConfigs = append(routes.DynamicRouteConfigs, &adminv3.RoutesConfigDump_DynamicRouteConfig{VersionInfo: r.Version, RouteConfig: a})
			case Secrets:
				secrets.DynamicActiveSecrets = append(secrets.DynamicActiveSecrets, &adminv3.SecretsConfigDump_DynamicSecret{Name: r.Name, VersionInfo: r.Version, Secret: a})
			case Runtime, kinds: // Envoy's dump has none
			}
		}
	}
	for _, m := range []proto.Message{clusters, endpoints, listeners, routes, secrets} {
		a, err := anypb.New(m)
		if err != nil {
			return nil, err
		}
		out.Configs = append(out.Configs, a)
	}
	compile.Redact(out.ProtoReflect())
	return out, nil
}

// ReadDump reads what /config_dump says, quadnine's or Envoy's, without the
// resources of the bootstrap. Resources that are warming take the place of the
// active ones.
func ReadDump(name string, data []byte) (*Group, error) {
	dump := new(adminv3.ConfigDump)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, dump); err != nil {
		return nil, fmt.Errorf("%s: is no config_dump: %w", name, err)
	}
	g := newGroup("")
	var errs []error
	add := func(version string, a *anypb.Any) {
		if a == nil {
			return // there is no such state
		}
		m, err := a.UnmarshalNew()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			return
		}
		if err := g.put(name, version, m); err != nil {
			errs = append(errs, err)
		}
	}
	for _, c := range dump.GetConfigs() {
		part, err := c.UnmarshalNew()
		if err != nil {
			continue // a part that is not about resources
		}
		switch d := part.(type) {
		case *adminv3.ClustersConfigDump:
			for _, c := range append(d.GetDynamicActiveClusters(), d.GetDynamicWarmingClusters()...) {
				add(c.GetVersionInfo(), c.GetCluster())
			}
		case *adminv3.EndpointsConfigDump:
			for _, e := range d.GetDynamicEndpointConfigs() {
				add(e.GetVersionInfo(), e.GetEndpointConfig())
			}
		case *adminv3.ListenersConfigDump:
			for _, l := range d.GetDynamicListeners() {
				for _, state := range []*adminv3.ListenersConfigDump_DynamicListenerState{l.GetActiveState(), l.GetWarmingState()} {
					add(state.GetVersionInfo(), state.GetListener())
				}
			}
		case *adminv3.RoutesConfigDump:
			for _, r := range d.GetDynamicRouteConfigs() {
				add(r.GetVersionInfo(), r.GetRouteConfig())
			}
		case *adminv3.SecretsConfigDump:
			for _, s := range d.GetDynamicActiveSecrets() {
				add(s.GetVersionInfo(), s.GetSecret())
			}
		}
	}
	return g, errors.Join(errs...)
}

// put adds m to a group, in the place of what has its name.
func (g *Group) put(where, version string, m proto.Message) error {
	r, err := newResource(m)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if version != "" {
		r.Version = version
	}
	r.Where = where
	g.byKind[r.Kind][r.Name] = r
	return nil
}
