package compile

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	xffv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/xff/v3"
	uuidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/snapshot"
)

// Envoy's defaults of the connection manager.
const (
	streamIdle   = 5 * time.Minute
	connIdle     = time.Hour
	drainTimeout = 5 * time.Second
	maxHeaders   = 100
	maxHeadersKB = 60
	serverName   = "envoy"
)

// manager compiles the connection manager at p.
func (l *listening) manager(m *hcmv3.HttpConnectionManager, p *at) {
	common := m.GetCommonHttpProtocolOptions()
	h := &l.out.HTTP
	*h = snapshot.HTTP{
		Envoy: true,

		UseRemoteAddress:  m.GetUseRemoteAddress().GetValue(),
		TrustedHops:       m.GetXffNumTrustedHops(),
		SkipAppend:        m.GetSkipXffAppend(),
		NormalizePath:     m.GetNormalizePath().GetValue(),
		MergeSlashes:      m.GetMergeSlashes(),
		GenerateRequestID: m.GetGenerateRequestId() == nil || m.GetGenerateRequestId().GetValue(),
		PreserveRequestID: m.GetPreserveExternalRequestId(),
		ServerName:        serverName,
		Proxy100:          m.GetProxy_100Continue(),
		AllowConnect:      m.GetHttp2ProtocolOptions().GetAllowConnect(),
		Internal:          l.prefixes(m.GetInternalAddressConfig().GetCidrRanges(), p.f("internal_address_config")),

		RequestTimeout:    l.duration(m.GetRequestTimeout(), p.f("request_timeout"), 0),
		HeadersTimeout:    l.duration(m.GetRequestHeadersTimeout(), p.f("request_headers_timeout"), 0),
		StreamIdleTimeout: l.duration(m.GetStreamIdleTimeout(), p.f("stream_idle_timeout"), streamIdle),
		IdleTimeout:       l.duration(common.GetIdleTimeout(), p.f("common_http_protocol_options").f("idle_timeout"), connIdle),
		DrainTimeout:      l.duration(m.GetDrainTimeout(), p.f("drain_timeout"), drainTimeout),
		MaxHeadersKB:      maxHeadersKB,
		MaxHeaders:        maxHeaders,
		MaxStreams:        m.GetHttp2ProtocolOptions().GetMaxConcurrentStreams().GetValue(),
		StreamWindow:      m.GetHttp2ProtocolOptions().GetInitialStreamWindowSize().GetValue(),
		ConnWindow:        m.GetHttp2ProtocolOptions().GetInitialConnectionWindowSize().GetValue(),
	}
	for i, u := range m.GetUpgradeConfigs() {
		h.Upgrades = l.upgrade(h.Upgrades, u, p.i("upgrade_configs", i))
	}
	if m.GetServerName() != "" {
		h.ServerName = m.GetServerName()
	}
	if v := m.GetMaxRequestHeadersKb(); v != nil {
		h.MaxHeadersKB = v.GetValue()
	}
	if v := common.GetMaxHeadersCount(); v != nil {
		h.MaxHeaders = v.GetValue()
	}
	switch m.GetCodecType() {
	case hcmv3.HttpConnectionManager_HTTP1:
		h.Codec = snapshot.CodecH1
	case hcmv3.HttpConnectionManager_HTTP2:
		h.Codec = snapshot.CodecH2
	case hcmv3.HttpConnectionManager_HTTP3:
		l.refuse(p.f("codec_type"), "HTTP3", "use AUTO, HTTP1 or HTTP2")
	}
	switch m.GetPathWithEscapedSlashesAction() {
	case hcmv3.HttpConnectionManager_REJECT_REQUEST:
		h.EscapedSlashes = snapshot.RejectEscaped
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT:
		h.EscapedSlashes = snapshot.UnescapeAndRedirect
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD:
		h.EscapedSlashes = snapshot.UnescapeAndForward
	}
	switch common.GetHeadersWithUnderscoresAction() {
	case corev3.HttpProtocolOptions_REJECT_REQUEST:
		h.Underscores = snapshot.RejectUnderscores
	case corev3.HttpProtocolOptions_DROP_HEADER:
		h.Underscores = snapshot.DropUnderscores
	}
	switch m.GetServerHeaderTransformation() {
	case hcmv3.HttpConnectionManager_OVERWRITE:
		h.ServerHeader = snapshot.ServerOverwrite
	case hcmv3.HttpConnectionManager_APPEND_IF_ABSENT:
		h.ServerHeader = snapshot.ServerAppendIfAbsent
	}
	l.clientCert(m)
	l.detection(m, p)
	if t := m.GetRequestIdExtension().GetTypedConfig(); t != nil {
		l.extension(&hcmv3.HttpFilter{ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: t}}, new(uuidv3.UuidRequestIdConfig), p.f("request_id_extension"), "use the UUID extension, which is the default")
	}
	for i, a := range m.GetAccessLog() {
		if log := l.accessLog(a, p.i("access_log", i)); log != nil {
			h.AccessLogs = append(h.AccessLogs, log)
		}
	}
	l.filters(m.GetHttpFilters(), p)
	l.routing(m, p)
}

// certModes are by forward_client_cert_details.
var certModes = map[hcmv3.HttpConnectionManager_ForwardClientCertDetails]snapshot.ClientCertMode{
	hcmv3.HttpConnectionManager_SANITIZE:            snapshot.SanitizeCert,
	hcmv3.HttpConnectionManager_FORWARD_ONLY:        snapshot.ForwardCert,
	hcmv3.HttpConnectionManager_APPEND_FORWARD:      snapshot.AppendForwardCert,
	hcmv3.HttpConnectionManager_SANITIZE_SET:        snapshot.SanitizeSetCert,
	hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY: snapshot.AlwaysForwardCert,
}

// clientCert compiles what becomes of x-forwarded-client-cert. Envoy looks at what is
// to be told of a certificate in the modes that tell it only.
func (l *listening) clientCert(m *hcmv3.HttpConnectionManager) {
	out := &l.out.HTTP.ClientCert
	out.Mode = certModes[m.GetForwardClientCertDetails()]
	if out.Mode == snapshot.AppendForwardCert || out.Mode == snapshot.SanitizeSetCert {
		tell := m.GetSetCurrentClientCertDetails()
		out.Cert, out.Chain, out.Subject, out.URI, out.DNS = tell.GetCert(), tell.GetChain(), tell.GetSubject().GetValue(), tell.GetUri(), tell.GetDns()
	}
}

// detection compiles how the caller's address is found.
func (l *listening) detection(m *hcmv3.HttpConnectionManager, p *at) {
	for i, e := range m.GetOriginalIpDetectionExtensions() {
		at := p.i("original_ip_detection_extensions", i)
		x := new(xffv3.XffConfig)
		if !l.extension(&hcmv3.HttpFilter{Name: e.GetName(), ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: e.GetTypedConfig()}}, x, at, "use envoy.http.original_ip_detection.xff") {
			continue
		}
		h := &l.out.HTTP
		if h.DetectXFF {
			l.refuse(at, e.GetName(), "use one")
		}
		h.DetectXFF, h.DetectHops = true, x.GetXffNumTrustedHops()
		h.DetectSkipAppend = x.GetSkipXffAppend() == nil || x.GetSkipXffAppend().GetValue()
	}
	if l.out.HTTP.DetectXFF && l.out.HTTP.UseRemoteAddress {
		l.fail(p.f("original_ip_detection_extensions"), "unset use_remote_address", "Original IP detection extensions and use_remote_address may not be mixed")
	}
	if l.out.HTTP.DetectXFF && l.out.HTTP.TrustedHops > 0 {
		l.fail(p.f("original_ip_detection_extensions"), "unset xff_num_trusted_hops", "Original IP detection extensions and xff_num_trusted_hops may not be mixed")
	}
}

// extension opens an extension that has to be a want.
func (l *listening) extension(f *hcmv3.HttpFilter, want proto.Message, p *at, hint string) bool {
	x, ok := l.open(f.GetTypedConfig(), p.f("typed_config"))
	if !ok {
		return false
	}
	if x.name != string(want.ProtoReflect().Descriptor().FullName()) {
		l.refuse(p, nameOf(f.GetName(), x), hint)
		return false
	}
	return l.into(x, want, p.f("typed_config"))
}

// routing compiles the inline routes or takes the name of the table.
func (l *listening) routing(m *hcmv3.HttpConnectionManager, p *at) {
	switch from := m.GetRouteSpecifier().(type) {
	case *hcmv3.HttpConnectionManager_Rds:
		l.out.RouteName = from.Rds.GetRouteConfigName()
		if l.out.RouteName == "" {
			// Envoy waits for it as for any table that does not come.
			l.ignore(p.f("rds").f("route_config_name"), `""`, "no server has a table without a name: every request is answered 404")
		}
		l.out.RouteFetch = l.fetch(from.Rds.GetConfigSource(), p.f("rds").f("config_source"))
	case *hcmv3.HttpConnectionManager_RouteConfig:
		wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(from.RouteConfig)
		if err != nil {
			l.fail(p.f("route_config"), "", "%v", err)
			return
		}
		// Tables inside of listeners bring notes of their own.
		if l.after = l.routes(wire, l.before, p.f("route_config"), true); l.after != nil {
			l.out.Inline = l.after.table
			l.notes = Notes{}
			l.notes.add(&l.after.notes)
		}
	}
}
