package xds

import (
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/snapshot"
)

// mistaken is a listener that takes the secret "inbound" for an authority.
func mistaken(t testing.TB, r *secureRig) *listenerv3.Listener {
	t.Helper()
	l := secureListener(t, adsSource())
	l.Name, l.Address = "mistaken", tcp("127.0.0.1", 10001)
	d := downstreamOf(r.inboundPair("mistaken"))
	d.CommonTlsContext.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{ValidationContextSdsSecretConfig: sds("inbound", adsSource())}
	l.FilterChains[0].TransportSocket = tlsSocket(t, "tls", d)
	return l
}

// TestSecretsOfMistakenListeners: who asks for a certificate as an authority does not
// keep others from its next version; and when nobody else asks for it, it is taken once
// somebody asks for what it is.
func TestSecretsOfMistakenListeners(t *testing.T) {
	inSecureBubble(t, nil, func(r *secureRig) {
		m := snapshots(r, false)
		m.start()
		c := run(r.T, ClientOptions{Variant: VariantDelta, Sink: r.Applier}, m)
		r.OnWanted(c.Resubscribe)
		secrets := func(second string) []proto.Message {
			return []proto.Message{certificateSecret("inbound", r.inboundPair(second)), certificateSecret("outbound", r.ca.Issue("spiffe://td/one")), trustSecret("trust", r.ca)}
		}
		w := [kinds][]proto.Message{KindCluster: {secureCluster(r, adsSource())}, KindListener: {mistaken(r, r)}, KindSecret: secrets("one")}
		m.set(w)
		wait(time.Second)
		if s := r.find(KindSecret, "inbound"); s.State != Refused || len(m.nacks) == 0 {
			r.Errorf("a certificate in the place of an authority: %+v, NACKs %q", s, m.nacks)
		}
		w[KindListener] = []proto.Message{mistaken(r, r), secureListener(r, adsSource())}
		m.set(w) // the server has no reason to send the secret again
		wait(time.Second)
		r.caller("spiffe://td/caller").answers("one")
		w[KindSecret] = secrets("two")
		m.set(w)
		wait(time.Second)
		r.caller("spiffe://td/caller").answers("two")
	})
}

// TestSuppliersSpeakForThemselves: no server gives or takes away what another one is
// asked for.
func TestSuppliersSpeakForThemselves(t *testing.T) {
	r := newSecureRig(t, nil, nil)
	from := byStream("agent", corev3.ApiConfigSource_DELTA_GRPC)
	from.GetApiConfigSource().GrpcServices[0].InitialMetadata = []*corev3.HeaderValue{{Key: "authorization", Value: "a-token"}}
	give := func(to Sink, kind Kind, name string, m proto.Message) []Rejected {
		t.Helper()
		return to.Update(Update{Kind: kind, Variant: VariantDelta, Version: "1", Resources: []Resource{{Name: name, Version: "1", Body: wireOf(t, m)}}})
	}
	if why := give(r.Applier, KindListener, "l", secureListener(t, from)); why != nil {
		t.Fatal(why)
	}
	of := r.Suppliers()
	if len(of) != 1 {
		t.Fatalf("suppliers %v", of)
	}
	agent := &secretSink{applier: r.Applier, to: r.Applier, of: supplier(of[0])}
	key := agent.key("inbound")
	give(r.Applier, KindSecret, key, certificateSecret("inbound", r.inboundPair("forged")))
	if s := r.find(KindSecret, "inbound"); s.State != Requested {
		t.Errorf("the aggregated stream's word for an agent's: %+v", s)
	}
	if why := give(agent, KindSecret, "inbound", certificateSecret("inbound", r.inboundPair("own"))); why != nil {
		t.Fatal(why)
	}
	r.Update(Update{Kind: KindSecret, Variant: VariantDelta, Version: "2", Removed: []string{key}})
	if s := r.find(KindSecret, "inbound"); s.State != Active || r.Version(KindSecret) == "1" {
		t.Errorf("the agent's secret: %+v, version of the aggregated stream %q", s, r.Version(KindSecret))
	}
	agent.Missing(KindSecret, "trust")
	if log := r.log.String(); !strings.Contains(log, "resource=trust") || strings.Contains(log, "a-token") {
		t.Errorf("log: %s", log)
	}
}

// TestStreamsWithKeysAreNotStored: what opens a stream of secrets is one.
func TestStreamsWithKeysAreNotStored(t *testing.T) {
	plain := byStream("agent", corev3.ApiConfigSource_GRPC).GetApiConfigSource()
	keyed := proto.CloneOf(plain)
	keyed.GrpcServices[0].TargetSpecifier = &corev3.GrpcService_GoogleGrpc_{GoogleGrpc: &corev3.GrpcService_GoogleGrpc{
		TargetUri: "agent", ChannelCredentials: &corev3.GrpcService_GoogleGrpc_ChannelCredentials{CredentialSpecifier: &corev3.GrpcService_GoogleGrpc_ChannelCredentials_SslCredentials{
			SslCredentials: &corev3.GrpcService_GoogleGrpc_SslCredentials{PrivateKey: inlinePEM([]byte("key"))},
		}},
	}}
	if streamSecret(string(wireOf(t, plain))) || !streamSecret(string(wireOf(t, keyed))) {
		t.Error("a stream with a key is not told from one without")
	}
}

// TestNamesThatAnybodyCouldClaim: neither are names matched nor is the SNI when the
// secret brings no authority.
func TestNamesThatAnybodyCouldClaim(t *testing.T) {
	a := &Applier{
		secrets:   map[string]*snapshot.Secret{"trust": {Name: "trust", Validation: &snapshot.Validation{Depth: -1}}},
		furnished: make(map[*snapshot.TLS]furnished),
	}
	ref := &snapshot.SecretRef{Name: "trust"}
	for what, in := range map[string]*snapshot.TLS{
		"names": {ValidationRef: ref, Validation: &snapshot.Validation{Depth: -1, Names: []snapshot.NameMatcher{{}}}},
		"sni":   {ValidationRef: ref, VerifySNI: true, SNI: "app.test"},
	} {
		if got := a.furnish(in).Missing; !strings.Contains(got, "anybody could claim") {
			t.Errorf("%s: missing %q", what, got)
		}
	}
}
