package control

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/quadnine/quadnine/xds/compile"
)

// csds tells of every node what was sent to it and what it said to it.
type csds struct {
	statusv3.UnimplementedClientStatusDiscoveryServiceServer
	s *Server
}

// FetchClientStatus answers one request.
func (c *csds) FetchClientStatus(_ context.Context, in *statusv3.ClientStatusRequest) (*statusv3.ClientStatusResponse, error) {
	for i, m := range in.GetNodeMatchers() {
		if len(m.GetNodeMetadatas()) > 0 {
			return nil, status.Errorf(codes.Unimplemented, "node_matchers[%d].node_metadatas: nodes are told apart by node_id only", i)
		}
		if e := m.GetNodeId().GetSafeRegex(); e != nil {
			if _, err := regexp.Compile(e.GetRegex()); err != nil {
				return nil, status.Errorf(codes.InvalidArgument, "node_matchers[%d].node_id.safe_regex: %v", i, err)
			}
		}
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	out := &statusv3.ClientStatusResponse{}
	for _, id := range sortedKeys(c.s.nodes) {
		if matched(in.GetNodeMatchers(), id) {
			out.Config = append(out.Config, c.s.clientConfig(c.s.nodes[id], !in.GetExcludeResourceContents()))
		}
	}
	return out, nil
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

// matched reports whether any of the matchers takes a node.
func matched(matchers []*matcherv3.NodeMatcher, id string) bool {
	for _, m := range matchers {
		if textMatches(m.GetNodeId(), id) {
			return true
		}
	}
	return len(matchers) == 0
}

func textMatches(m *matcherv3.StringMatcher, s string) bool {
	if m == nil {
		return true
	}
	fold := func(t string) string { return t }
	if m.GetIgnoreCase() {
		fold = strings.ToLower
		s = fold(s)
	}
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return s == fold(p.Exact)
	case *matcherv3.StringMatcher_Prefix:
		return strings.HasPrefix(s, fold(p.Prefix))
	case *matcherv3.StringMatcher_Suffix:
		return strings.HasSuffix(s, fold(p.Suffix))
	case *matcherv3.StringMatcher_Contains:
		return strings.Contains(s, fold(p.Contains))
	case *matcherv3.StringMatcher_SafeRegex:
		re, err := regexp.Compile("^(?:" + p.SafeRegex.GetRegex() + ")$")
		return err == nil && re.MatchString(s)
	}
	return false
}

// clientConfig says of a node what CSDS says (gRFC A40).
func (s *Server) clientConfig(n *node, contents bool) *statusv3.ClientConfig {
	out := &statusv3.ClientConfig{Node: &corev3.Node{Id: n.id, Cluster: n.cluster, UserAgentName: n.agent}}
	for _, k := range Kinds() {
		history := s.groups[n.group].history[k]
		for _, name := range sortedKeys(n.kinds[k].resources) {
			r := n.kinds[k].resources[name]
			g := &statusv3.ClientConfig_GenericXdsConfig{
				TypeUrl: k.TypeURL(), Name: name, VersionInfo: r.accepted, LastUpdated: timestamppb.New(r.at),
				ConfigStatus: statusv3.ConfigStatus_STALE, ClientStatus: adminv3.ClientResourceStatus_REQUESTED,
			}
			if contents && history[name] != nil {
				if v := history[name].find(r.accepted); v != nil {
					g.XdsConfig = &anypb.Any{TypeUrl: k.TypeURL(), Value: v.Body}
				}
			}
			switch r.state() {
			case stateRejected:
				g.ConfigStatus, g.ClientStatus = statusv3.ConfigStatus_ERROR, adminv3.ClientResourceStatus_NACKED
				g.ErrorState = &adminv3.UpdateFailureState{Details: r.reason, VersionInfo: r.rejected, LastUpdateAttempt: timestamppb.New(r.at)}
			case stateAccepted:
				g.ConfigStatus, g.ClientStatus = statusv3.ConfigStatus_SYNCED, adminv3.ClientResourceStatus_ACKED
			}
			compile.Redact(g.ProtoReflect())
			out.GenericXdsConfigs = append(out.GenericXdsConfigs, g)
		}
	}
	return out
}
