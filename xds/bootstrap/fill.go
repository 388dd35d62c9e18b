package bootstrap

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// fetchTimeout is initial_fetch_timeout's default.
const fetchTimeout = 15 * time.Second

// fill takes what is used of m.
func (b *Bootstrap) fill(m *bootstrapv3.Bootstrap) (errs []error) {
	fail := func(path, format string, args ...any) {
		errs = append(errs, fmt.Errorf("bootstrap: %s %s", path, fmt.Sprintf(format, args...)))
	}
	if a := m.GetAdmin().GetAddress(); a != nil {
		addr, err := address(a)
		if err != nil {
			fail("admin.address", "%v", err)
		}
		b.Admin = strings.TrimPrefix(strings.Replace(addr, "unix ", "unix:", 1), "tcp ")
	}
	s := m.GetStaticResources()
	b.Clusters, b.Listeners = s.GetClusters(), s.GetListeners()
	for i, sec := range s.GetSecrets() {
		if sec.GetName() == "" {
			fail(fmt.Sprintf("static_resources.secrets[%d].name", i), "is empty: secrets are found by name")
			continue
		}
		b.Secrets[sec.GetName()] = sec
	}
	d := m.GetDynamicResources()
	var err error
	if b.LDS, err = source(d.GetLdsConfig()); err != nil {
		fail("dynamic_resources.lds_config", "%v", err)
	}
	if b.CDS, err = source(d.GetCdsConfig()); err != nil {
		fail("dynamic_resources.cds_config", "%v", err)
	}
	if c := d.GetAdsConfig(); c != nil {
		if b.ADS, err = b.ads(c); err != nil {
			fail("dynamic_resources.ads_config", "%v", err)
		}
	}
	needsADS := b.LDS != nil && b.LDS.ADS || b.CDS != nil && b.CDS.ADS
	layers := m.GetLayeredRuntime().GetLayers()
	for i, l := range layers {
		path := fmt.Sprintf("layered_runtime.layers[%d]", i)
		out := Layer{Name: l.GetName()}
		switch k := l.GetLayerSpecifier().(type) {
		case *bootstrapv3.RuntimeLayer_StaticLayer:
			out.Static = k.StaticLayer
		case *bootstrapv3.RuntimeLayer_AdminLayer_:
			out.Admin = true
		case *bootstrapv3.RuntimeLayer_RtdsLayer_:
			out.RTDS, out.FetchTimeout = k.RtdsLayer.GetName(), fetchTime(k.RtdsLayer.GetRtdsConfig())
			needsADS = true
			if k.RtdsLayer.GetRtdsConfig().GetAds() == nil {
				fail(path+".rtds_layer.rtds_config", "is not ads: {}: runtime layers come over the aggregated stream only")
			}
		case *bootstrapv3.RuntimeLayer_DiskLayer_:
			fail(path+".disk_layer", "is not supported: write the values into a static_layer, or serve them as an rtds_layer")
			continue
		default:
			fail(path, "has no kind: set static_layer, admin_layer or rtds_layer")
			continue
		}
		if out.Name == "" {
			fail(path+".name", "is empty")
		}
		b.Layers = append(b.Layers, out)
	}
	b.overload(m.GetOverloadManager(), fail)
	if needsADS && b.ADS == nil && len(errs) == 0 {
		fail("dynamic_resources.ads_config", "is missing, and resources are to come from it (ads: {})")
	}
	return errs
}

// ads checks the aggregated stream's source.
func (b *Bootstrap) ads(c *corev3.ApiConfigSource) (*ADS, error) {
	out := &ADS{Services: c.GetGrpcServices(), NodeOnFirstOnly: c.GetSetNodeOnFirstMessageOnly()}
	switch c.GetApiType() {
	case corev3.ApiConfigSource_GRPC, corev3.ApiConfigSource_AGGREGATED_GRPC:
	case corev3.ApiConfigSource_DELTA_GRPC, corev3.ApiConfigSource_AGGREGATED_DELTA_GRPC:
		out.Delta = true
	default:
		return nil, fmt.Errorf("has api_type %s: use GRPC or DELTA_GRPC", c.GetApiType())
	}
	if v := c.GetTransportApiVersion(); v != corev3.ApiVersion_V3 {
		return nil, fmt.Errorf("has transport_api_version %s: only V3 is spoken", v)
	}
	if len(out.Services) == 0 {
		return nil, errors.New("has no grpc_services: name the management server")
	}
	for i, s := range out.Services {
		if e := s.GetEnvoyGrpc(); e != nil && b.Cluster(e.GetClusterName()) == nil {
			return nil, fmt.Errorf("names cluster %q in grpc_services[%d].envoy_grpc, which static_resources.clusters does not have", e.GetClusterName(), i)
		}
		if s.GetEnvoyGrpc() == nil && s.GetGoogleGrpc() == nil {
			return nil, fmt.Errorf("has neither envoy_grpc nor google_grpc in grpc_services[%d]", i)
		}
	}
	return out, nil
}

// Secret returns the static secret called name, or nil.
func (b *Bootstrap) Secret(name string) *tlsv3.Secret { return b.Secrets[name] }

// Cluster returns the static cluster called name, or nil.
func (b *Bootstrap) Cluster(name string) *clusterv3.Cluster {
	for _, c := range b.Clusters {
		if c.GetName() == name {
			return c
		}
	}
	return nil
}

// fetchTime is how long the first answer may take.
func fetchTime(c *corev3.ConfigSource) time.Duration {
	if t := c.GetInitialFetchTimeout(); t != nil {
		return t.AsDuration()
	}
	return fetchTimeout
}

// source checks where listeners or clusters come from.
func source(c *corev3.ConfigSource) (*Source, error) {
	if c == nil {
		return nil, nil
	}
	s := &Source{FetchTimeout: fetchTime(c)}
	switch k := c.GetConfigSourceSpecifier().(type) {
	case *corev3.ConfigSource_Ads:
		s.ADS = true
	case *corev3.ConfigSource_PathConfigSource:
		s.Path = k.PathConfigSource.GetPath()
	case *corev3.ConfigSource_Path:
		s.Path = k.Path
	case *corev3.ConfigSource_ApiConfigSource:
		return nil, errors.New("is an api_config_source of its own: use ads: {} with ads_config, which keeps the kinds in order")
	default:
		return nil, errors.New("has no source: use ads: {} or path_config_source")
	}
	return s, nil
}

// address returns a as "tcp host:port" or "unix path".
func address(a *corev3.Address) (string, error) {
	if p := a.GetPipe(); p != nil {
		return "unix " + p.GetPath(), nil
	}
	s := a.GetSocketAddress()
	if s == nil {
		return "", errors.New("is neither a socket_address nor a pipe")
	}
	if s.GetNamedPort() != "" {
		return "", errors.New("has a named_port: write port_value")
	}
	return "tcp " + net.JoinHostPort(s.GetAddress(), strconv.FormatUint(uint64(s.GetPortValue()), 10)), nil
}
