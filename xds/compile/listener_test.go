package compile

import (
	"bytes"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/snapshot"
)

// What a connection manager says becomes the listener's.
func TestConnectionManager(t *testing.T) {
	l := listenerOf(t, withFilters(`"codecType":"HTTP2","xffNumTrustedHops":2,"skipXffAppend":true,"useRemoteAddress":true,"normalizePath":true,"mergeSlashes":true,
		"pathWithEscapedSlashesAction":"UNESCAPE_AND_FORWARD","generateRequestId":false,"preserveExternalRequestId":true,"serverName":"s","serverHeaderTransformation":"APPEND_IF_ABSENT",
		"requestTimeout":"1s","requestHeadersTimeout":"2s","streamIdleTimeout":"3s","commonHttpProtocolOptions":{"idleTimeout":"4s","maxHeadersCount":7},"drainTimeout":"5s","maxRequestHeadersKb":8,
		"http2ProtocolOptions":{"maxConcurrentStreams":200,"initialStreamWindowSize":65536,"initialConnectionWindowSize":1048576},
		"requestIdExtension":{"typedConfig":{"@type":"type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig","useRequestIdForTraceSampling":false}}`,
		`{"name":"h","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck","passThroughMode":true,"cacheTime":"1s","headers":[{"name":":path","exactMatch":"/ready"}]}},
		{"name":"i","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck","passThroughMode":false,"clusterMinHealthyPercentages":{"b":{"value":25},"a":{"value":50}}}},`))
	path := []snapshot.HeaderMatcher{{Name: ":path", String: &snapshot.StringMatcher{Value: "/ready"}}}
	want := snapshot.HTTP{
		Codec: snapshot.CodecH2, Envoy: true, UseRemoteAddress: true, TrustedHops: 2, SkipAppend: true, NormalizePath: true, MergeSlashes: true,
		EscapedSlashes: snapshot.UnescapeAndForward, PreserveRequestID: true, ServerName: "s", ServerHeader: snapshot.ServerAppendIfAbsent,
		RequestTimeout: time.Second, HeadersTimeout: 2 * time.Second, StreamIdleTimeout: 3 * time.Second, IdleTimeout: 4 * time.Second, DrainTimeout: 5 * time.Second,
		MaxHeadersKB: 8, MaxHeaders: 7, MaxStreams: 200, StreamWindow: 65536, ConnWindow: 1 << 20,
		Filters: []snapshot.Filter{
			{Name: "h", HealthCheck: &snapshot.HealthCheck{PassThrough: true, CacheFor: time.Second, Headers: path}},
			{Name: "i", HealthCheck: &snapshot.HealthCheck{MinHealthy: []snapshot.ClusterMin{{Cluster: "a", Percent: 50}, {Cluster: "b", Percent: 25}}}},
		},
	}
	if !reflect.DeepEqual(l.HTTP, want) {
		t.Errorf("got\n%+v\nwant\n%+v", l.HTTP, want)
	}
}

// What a listener says of its sockets becomes its own.
func TestSocketsOfAListener(t *testing.T) {
	l := listenerOf(t, strings.Replace(withManager(""), `"name":"l0",`, `"name":"l0","trafficDirection":"INBOUND","perConnectionBufferLimitBytes":5,"maxConnectionsToAcceptPerSocketEvent":1,
		"socketOptions":[{"level":1,"name":9,"intValue":1},{"level":6,"name":4,"bufValue":"AQ=="}],"enableReusePort":true,"bindToPort":true,"useOriginalDst":false,`, 1))
	want := snapshot.TCP{BufferLimit: 5, Options: []snapshot.SocketOption{{Level: 1, Name: 9, Int: 1}, {Level: 6, Name: 4, Bytes: []byte{1}}}}
	if !reflect.DeepEqual(l.TCP, want) || l.Role != snapshot.Inbound {
		t.Errorf("got %+v, %v", l.TCP, l.Role)
	}
	if got := listenerOf(t, strings.Replace(withManager(""), "127.0.0.1", "::1", 1)).Address; got != "[::1]:8080" {
		t.Errorf("address is %q", got)
	}
}

func TestDetectionOfTheCaller(t *testing.T) {
	detect := func(fields string) snapshot.HTTP {
		return listenerOf(t, withManager(`"originalIpDetectionExtensions":[{"name":"xff","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig"`+fields+`}}]`)).HTTP
	}
	if h := detect(`,"xffNumTrustedHops":1,"skipXffAppend":false`); !h.DetectXFF || h.DetectHops != 1 || h.DetectSkipAppend {
		t.Errorf("got %+v", h)
	}
	if h := detect(""); !h.DetectSkipAppend { // XffConfig's own default
		t.Errorf("got %+v", h)
	}
}

func TestRouterSuppressesEnvoyHeaders(t *testing.T) {
	l := listenerOf(t, strings.Replace(withManager(""), `v3.Router"`, `v3.Router","suppressEnvoyHeaders":true`, 1))
	if !l.HTTP.SuppressEnvoy {
		t.Errorf("got %+v", l.HTTP)
	}
}

func TestFieldNamesWithUnderscores(t *testing.T) {
	for action, want := range map[string]snapshot.Underscores{"ALLOW": snapshot.AllowUnderscores, "REJECT_REQUEST": snapshot.RejectUnderscores, "DROP_HEADER": snapshot.DropUnderscores} {
		l := listenerOf(t, withManager(`"commonHttpProtocolOptions":{"headersWithUnderscoresAction":"`+action+`"}`))
		if l.HTTP.Underscores != want {
			t.Errorf("%s: %v", action, l.HTTP.Underscores)
		}
	}
}

func TestAccessLogs(t *testing.T) {
	log := func(fields string) string {
		return `{"name":"f","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog","path":"/dev/stdout"` + fields + `}`
	}
	l := listenerOf(t, withManager(`"accessLog":[`+log("")+`},`+log(`,"logFormat":{"textFormatSource":{"inlineString":"a\n"}}`)+`,"filter":{"responseFlagFilter":{"flags":["NR","UF"]}}},`+
		log(`,"logFormat":{"jsonFormat":{"z":"2","a":"1"}}`)+`,"filter":{"responseFlagFilter":{}}}]`))
	logs := l.HTTP.AccessLogs
	if len(logs) != 3 || len(logs[0].Format) == 0 || logs[0].Flags != nil || logs[0].AnyFlag || logs[0].Path != "/dev/stdout" {
		t.Fatalf("got %+v", logs)
	}
	if logs[1].Format[0].Literal != "a\n" || !reflect.DeepEqual(logs[1].Flags, []string{"NR", "UF"}) || logs[1].AnyFlag {
		t.Errorf("got %+v", logs[1])
	}
	if j := logs[2].JSON; !logs[2].AnyFlag || len(j) != 2 || j[0].Name != "a" || j[1].Name != "z" || j[1].Value[0].Literal != "2" {
		t.Errorf("got %+v", logs[2])
	}
	if err := take(t, "listener", withManager(`"accessLog":[`+log(`,"logFormat":{"jsonFormat":{"a":1}}`)+`}]`)); err == nil || !strings.Contains(err.Error(), `json_format.fields["a"]`) {
		t.Errorf("a number in a JSON log: %v", err)
	}
	for text, ok := range map[string]bool{log("") + `,"filter":{"responseFlagFilter":{"flags":["NR"]}}}`: true, log("") + `}`: false} {
		err := take(t, "listener", strings.Replace(withManager(""), `"name":"l0",`, `"name":"l0","accessLog":[`+text+`],`, 1))
		if (err == nil) != ok {
			t.Errorf("access log of connections %s: %v", text, err)
		}
	}
}

// A listener that is sent again in another order of its maps, inside of its
// filters too, is the same object: its connections do not drain.
func TestSameListenerInOtherBytesIsTheSame(t *testing.T) {
	text := withManager(`"routeConfig":{"name":"r","virtualHosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"a"},"metadata":{"filterMetadata":{"p":{},"q":{},"r":{}}}}]}]},
		"accessLog":[{"name":"f","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog","path":"x","logFormat":{"jsonFormat":{"a":"1","b":"2","c":"3","d":"4"}}}}]`)
	c := New()
	first := listenerWire(t, text)
	before, notes, err := c.Listener(first)
	if err != nil {
		t.Fatal(err)
	}
	other := first
	for range 1000 {
		if other = shuffled(t, first); !bytes.Equal(other, first) {
			break
		}
	}
	if bytes.Equal(other, first) {
		t.Fatal("no other order in 1,000 tries")
	}
	after, again, err := c.Listener(other)
	if err != nil || after != before || !reflect.DeepEqual(again, notes) {
		t.Errorf("the listener changed: %v", err)
	}
	// What only counts does not change it either.
	if after, _, err = c.Listener(listenerWire(t, strings.Replace(text, `"name":"l0",`, `"name":"l0","statPrefix":"y",`, 1))); err != nil || after != before {
		t.Errorf("the listener changed with its stat_prefix: %v", err)
	}
	if c.ForgetListener("l0"); len(c.listeners)+len(c.inline) != 0 {
		t.Error("ForgetListener kept something")
	}
}

// Routes inside of a listener are validated against the clusters, as in Envoy, and
// those of RDS are not.
func TestInlineRoutesAreValidated(t *testing.T) {
	inline := withManager(`"routeConfig":` + oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a"},"decorator":{"operation":"x"}}`))
	l, notes, err := New().Listener(listenerWire(t, inline))
	if err != nil || !l.Inline.Validate {
		t.Errorf("inline: %+v, %v", l, err)
	}
	if len(notes.Ignored) != 1 || !strings.HasPrefix(notes.Ignored[0], "listener/filter_chains[].filters[].typed_config.route_config.virtual_hosts[].routes[].decorator (set to {…}): ") {
		t.Errorf("notes are %q", notes.Ignored)
	}
	if table, _, _ := New().Routes(routeWire(t, oneHost(""))); table == nil || table.Validate {
		t.Errorf("RDS: %+v", table)
	}
}

// shuffled writes a listener's connection manager again: maps come in random order.
func shuffled(t *testing.T, in []byte) []byte {
	t.Helper()
	l, m := new(listenerv3.Listener), new(hcmv3.HttpConnectionManager)
	if err := proto.Unmarshal(in, l); err != nil {
		t.Fatal(err)
	}
	a := lastFilter(l).GetTypedConfig()
	if err := a.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	a.Value = marshal(t, m)
	return marshal(t, l)
}

// lastFilter is the connection manager of a listener that is taken.
func lastFilter(l *listenerv3.Listener) *listenerv3.Filter {
	chain := l.GetDefaultFilterChain()
	if len(l.GetFilterChains()) > 0 {
		chain = l.GetFilterChains()[0]
	}
	return chain.GetFilters()[len(chain.GetFilters())-1]
}

// What a listener says of upgrades, 1xx responses and internal callers.
func TestManagerOfIstioAndKuma(t *testing.T) {
	l, _, err := New().Listener(listenerWire(t, withManager(`"proxy100Continue":true,"upgradeConfigs":[{"upgradeType":"WebSocket"},{"upgradeType":"mine","enabled":false}],
		"internalAddressConfig":{"cidrRanges":[{"addressPrefix":"10.1.2.3","prefixLen":8},{"addressPrefix":"fd00::1","prefixLen":8},{"addressPrefix":"127.0.0.1","prefixLen":64},{"addressPrefix":"1.2.3.4"}]}`)))
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("0.0.0.0/0")}
	if !slices.Equal(l.HTTP.Internal, want) {
		t.Errorf("internal addresses %v, want %v", l.HTTP.Internal, want)
	}
	if got := l.HTTP.Upgrades; !l.HTTP.Proxy100 || !maps.Equal(got, map[string]bool{"websocket": true, "mine": false}) {
		t.Errorf("upgrades %v", got)
	}
}
