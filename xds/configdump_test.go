package xds

import (
	"encoding/json"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quadnine/quadnine/xds/compile"
)

// TestDumpsAreWholeAndSecret: what cannot be decoded is shown by its type, and no
// page shows a private key.
func TestDumpsAreWholeAndSecret(t *testing.T) {
	const key = "TOP-SECRET"
	pem := func(s string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: s}}
	}
	management := edsCluster("management")
	management.TransportSocket = socketOf(t, &tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: pem("chain"), PrivateKey: pem(key)}},
	}})
	management.Metadata = &corev3.Metadata{TypedFilterMetadata: map[string]*anypb.Any{
		"own": {TypeUrl: "type.googleapis.com/own.Thing", Value: []byte(key)},
	}}
	r := newRig(t, func(o *ApplierOptions) {
		o.Static = []StaticResource{{Kind: KindCluster, Name: "management", Body: wireOf(t, management), Aside: true}}
	})
	defer func() { must(t, r.Close()) }()
	r.do([]string{"cds", "1", "c=bad:no", "d=static:10.0.0.1:80"}) // these are no messages
	r.do([]string{"cds", "2", "d=bad:no"})

	dump, err := r.ConfigDump(&bootstrapv3.Bootstrap{}, true, "")
	must(t, err)
	for _, want := range []string{"own.Thing", "management", "chain", compile.Redacted, "field: no (mend it)"} {
		if !strings.Contains(string(dump), want) {
			t.Errorf("the dump lacks %q: %s", want, dump)
		}
	}
	status, err := typed.Marshal(r.ClientConfig(nil, true))
	must(t, err)
	for name, page := range map[string][]byte{"the dump": dump, "the client status": status} {
		if strings.Contains(string(page), key) || strings.Contains(string(page), "VE9QLVNFQ1JFV") { // as it is, and in base64
			t.Errorf("%s tells the key: %s", name, page)
		}
	}
	if !strings.Contains(string(status), "chain") {
		t.Errorf("the client status holds no contents: %s", status)
	}
}

var typed = protojson.MarshalOptions{Resolver: typesOrNot{protoregistry.GlobalTypes}}

// TestDumpOfAnUpdate: what is in use is shown beside what warms.
func TestDumpOfAnUpdate(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		dumped := func(section string) string {
			t.Helper()
			b, err := r.ConfigDump(nil, false, section)
			must(t, err)
			var out struct {
				Configs []struct {
					VersionInfo string `json:"version_info"`
					Active      struct {
						VersionInfo string `json:"version_info"`
					} `json:"active_state"`
					Warming struct {
						VersionInfo string `json:"version_info"`
					} `json:"warming_state"`
				}
			}
			must(t, json.Unmarshal(b, &out))
			var all []string
			for _, c := range out.Configs {
				all = append(all, c.VersionInfo+c.Active.VersionInfo+"/"+c.Warming.VersionInfo)
			}
			return strings.Join(all, " ")
		}
		expect := func(event, listeners, active, warming string) {
			t.Helper()
			r.events(event)
			if l, a, w := dumped("dynamic_listeners"), dumped("dynamic_active_clusters"), dumped("dynamic_warming_clusters"); l != listeners || a != active || w != warming {
				t.Errorf("%s: listeners %q, clusters %q and %q; want %q, %q and %q", event, l, a, w, listeners, active, warming)
			}
		}
		expect("cds 1 a=static:10.0.0.1:80 · lds 1 l=:80/rds:r · rds 1 r=a", "1/", "1/", "")
		expect("cds 2 a=eds · lds 2 l=:80/rds:q", "1/2", "1/", "2/")
		expect("cds 3 a=eds:x · lds 3 l=:80/rds:s", "1/3", "1/", "3/")
		expect("lds 4 l=bad:no", "1/3", "1/", "3/") // one that is not taken hides nothing
		expect("+eds 1 x=10.0.0.2:80 · +rds 1 s=a", "3/", "3/", "")
	})
}
