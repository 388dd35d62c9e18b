package xds

import (
	"context"
	"errors"
	"io"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/quadnine/quadnine/xds/compile"
)

// ClientConfig returns the state of every resource as CSDS says it (gRFC A40),
// with what they hold when contents is set: redacted, as in /config_dump.
func (a *Applier) ClientConfig(node *corev3.Node, contents bool) *statusv3.ClientConfig {
	out := &statusv3.ClientConfig{Node: node, GenericXdsConfigs: a.genericConfigs()}
	for _, g := range out.GetGenericXdsConfigs() {
		if contents {
			compile.Redact(g.ProtoReflect())
			continue
		}
		g.XdsConfig = nil
		if g.GetErrorState() != nil {
			g.ErrorState.FailedConfiguration = nil
		}
	}
	return out
}

func (a *Applier) genericConfigs() (out []*statusv3.ClientConfig_GenericXdsConfig) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, kind := range Kinds() {
		for _, r := range a.all(kind) {
			out = append(out, a.genericConfig(r))
		}
	}
	return out
}

func (a *Applier) genericConfig(r *resource) *statusv3.ClientConfig_GenericXdsConfig {
	g := &statusv3.ClientConfig_GenericXdsConfig{
		TypeUrl: r.kind.TypeURL(), Name: r.plainName(), IsStaticResource: r.static,
		ConfigStatus: configStatus[r.state], ClientStatus: clientStatus[r.state],
	}
	if r.accepted() {
		g.VersionInfo, g.LastUpdated = r.version, timestamppb.New(r.updated)
		g.XdsConfig = &anypb.Any{TypeUrl: r.kind.TypeURL(), Value: r.wire}
	}
	if f := r.refused; f != nil {
		g.ErrorState = &adminv3.UpdateFailureState{
			FailedConfiguration: &anypb.Any{TypeUrl: r.kind.TypeURL(), Value: f.wire},
			LastUpdateAttempt:   timestamppb.New(f.at), Details: a.trouble(r), VersionInfo: f.version,
		}
	} else if r.failure != "" {
		g.ErrorState = &adminv3.UpdateFailureState{Details: r.failure}
	}
	return g
}

var configStatus = map[State]statusv3.ConfigStatus{
	Requested: statusv3.ConfigStatus_UNKNOWN, Absent: statusv3.ConfigStatus_NOT_SENT, Refused: statusv3.ConfigStatus_ERROR,
	Accepted: statusv3.ConfigStatus_SYNCED, Warming: statusv3.ConfigStatus_SYNCED, Active: statusv3.ConfigStatus_SYNCED,
}

var clientStatus = map[State]adminv3.ClientResourceStatus{
	Requested: adminv3.ClientResourceStatus_REQUESTED, Absent: adminv3.ClientResourceStatus_DOES_NOT_EXIST, Refused: adminv3.ClientResourceStatus_NACKED,
	Accepted: adminv3.ClientResourceStatus_ACKED, Warming: adminv3.ClientResourceStatus_ACKED, Active: adminv3.ClientResourceStatus_ACKED,
}

// RegisterCSDS makes s serve the state of a as the client status discovery
// service. node is the sidecar's own.
func RegisterCSDS(s grpc.ServiceRegistrar, a *Applier, node *corev3.Node) {
	statusv3.RegisterClientStatusDiscoveryServiceServer(s, &csds{a: a, node: node})
}

// csds is the client status discovery service of one sidecar: node matchers have
// nothing to choose from and are not looked at, as in Envoy.
type csds struct {
	statusv3.UnimplementedClientStatusDiscoveryServiceServer
	a    *Applier
	node *corev3.Node
}

// FetchClientStatus answers one request.
func (c *csds) FetchClientStatus(_ context.Context, in *statusv3.ClientStatusRequest) (*statusv3.ClientStatusResponse, error) {
	cfg := c.a.ClientConfig(c.node, !in.GetExcludeResourceContents())
	return &statusv3.ClientStatusResponse{Config: []*statusv3.ClientConfig{cfg}}, nil
}

// StreamClientStatus answers each request of a stream.
func (c *csds) StreamClientStatus(s statusv3.ClientStatusDiscoveryService_StreamClientStatusServer) error {
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out, err := c.FetchClientStatus(s.Context(), in)
		if err != nil {
			return err
		}
		if err := s.Send(out); err != nil {
			return err
		}
	}
}
