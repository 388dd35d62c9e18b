package xds

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/xds/compile"
)

// TestSecretsReachTheWire: secrets that come over the aggregated stream secure both
// sides; a new one is shown to new connections, those that are there go on; one that
// cannot be used is refused by field, and the one before stays.
func TestSecretsReachTheWire(t *testing.T) {
	for _, variant := range []string{VariantDelta, VariantSotw} {
		t.Run(variant, func(t *testing.T) {
			inSecureBubble(t, nil, func(r *secureRig) {
				m := snapshots(r, false)
				m.start()
				c := run(r.T, ClientOptions{Variant: variant, Sink: r.Applier}, m)
				r.OnWanted(c.Resubscribe)
				w := [kinds][]proto.Message{
					KindCluster:  {secureCluster(r, adsSource())},
					KindListener: {secureListener(r, adsSource())},
					KindSecret:   {certificateSecret("inbound", r.inboundPair("one")), certificateSecret("outbound", r.ca.Issue("spiffe://td/one")), trustSecret("trust", r.ca)},
				}
				m.set(w)
				wait(time.Second)

				held := r.caller("spiffe://td/caller")
				held.answers("one")
				if got := r.shown(); got != "spiffe://td/one" {
					t.Errorf("the app was shown %q", got)
				}
				if _, err := r.caller("spiffe://td/other").get(); err == nil {
					t.Error("a caller of another name is served")
				}
				if _, err := r.caller().get(); err == nil {
					t.Error("a caller without a certificate is served")
				}

				before := m.acks
				w[KindSecret] = []proto.Message{certificateSecret("inbound", r.inboundPair("two")), certificateSecret("outbound", r.ca.Issue("spiffe://td/two")), trustSecret("trust", r.ca)}
				m.set(w)
				wait(time.Second)
				held.answers("one") // on the connection that it has
				r.caller("spiffe://td/caller").answers("two")
				if m.acks == before || len(m.nacks) != 0 {
					t.Errorf("%d ACKs, NACKs %q", m.acks-before, m.nacks)
				}

				mixed := r.inboundPair("three")
				mixed.Key = r.inboundPair("four").Key
				garbage := testkit.Pair{Cert: []byte("no PEM"), Key: r.inboundPair("five").Key}
				w[KindSecret] = []proto.Message{certificateSecret("inbound", mixed), certificateSecret("outbound", garbage), trustSecret("trust", r.ca)}
				m.set(w)
				wait(time.Second)
				if len(m.nacks) == 0 || !strings.Contains(m.nacks[0], `Secret "inbound": tls_certificate.private_key: `) || !strings.Contains(m.nacks[0], `Secret "outbound": tls_certificate.certificate_chain: `) {
					t.Errorf("NACKs %q", m.nacks)
				}
				held.answers("one")
				r.caller("spiffe://td/caller").answers("two")
			})
		})
	}
}

// agent is a server of secrets only, as those are that a node's agents run.
func agent(t testing.TB) *manager {
	t.Helper()
	m := snapshots(t, false)
	m.service = func(s *grpc.Server) {
		secretv3.RegisterSecretDiscoveryServiceServer(s, serverv3.NewServer(context.Background(), m.cache, m.callbacks()))
	}
	return m
}

// TestSecretsByTheirOwnStream: a stream beside the aggregated one, as agents of
// meshes serve it, is opened once for all who name it, and closed with the last.
func TestSecretsByTheirOwnStream(t *testing.T) {
	for variant, api := range map[string]corev3.ApiConfigSource_ApiType{VariantDelta: corev3.ApiConfigSource_DELTA_GRPC, VariantSotw: corev3.ApiConfigSource_GRPC} {
		t.Run(variant, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := agent(t)
				supply := &SupplierOptions{
					Node: &corev3.Node{Id: "node", Cluster: "cluster"},
					Server: func(s *corev3.GrpcService) (ServerConfig, error) {
						return ServerConfig{Name: s.GetEnvoyGrpc().GetClusterName()}, nil
					},
					Dial: func(ctx context.Context, s ServerConfig) (net.Conn, error) {
						if s.Name != "agent" {
							t.Errorf("dialed %q", s.Name)
						}
						return a.dial(ctx)
					},
				}
				r := newSecureRig(t, nil, supply)
				m := snapshots(t, false)
				m.start()
				c := run(t, ClientOptions{Variant: variant, Sink: r.Applier}, m)
				r.OnWanted(c.Resubscribe)
				from := byStream("agent", api)
				w := [kinds][]proto.Message{KindCluster: {secureCluster(r, from)}, KindListener: {secureListener(r, from)}}
				m.set(w)
				a.set([kinds][]proto.Message{KindSecret: {certificateSecret("inbound", r.inboundPair("one")), certificateSecret("outbound", r.ca.Issue("spiffe://td/one")), trustSecret("trust", r.ca)}})
				wait(time.Second)
				if _, err := r.net.Dial(t.Context(), "127.0.0.1:10000"); err == nil {
					t.Error("the listener is open before its secrets are there")
				}
				a.start()
				t.Cleanup(a.stop)
				wait(10 * time.Second) // it was tried before, and is tried again
				held := r.caller("spiffe://td/caller")
				held.answers("one")
				if len(a.streams) != 1 || a.streams[0] != variant {
					t.Errorf("streams %q, want one", a.streams)
				}

				a.set([kinds][]proto.Message{KindSecret: {certificateSecret("inbound", r.inboundPair("two")), certificateSecret("outbound", r.ca.Issue("spiffe://td/two")), trustSecret("trust", r.ca)}})
				wait(time.Second)
				held.answers("one")
				r.caller("spiffe://td/caller").answers("two")
				mixed := r.inboundPair("three")
				mixed.Key = r.inboundPair("four").Key
				a.set([kinds][]proto.Message{KindSecret: {certificateSecret("inbound", mixed), certificateSecret("outbound", r.ca.Issue("spiffe://td/two")), trustSecret("trust", r.ca)}})
				wait(time.Second)
				if len(a.nacks) == 0 || !strings.HasPrefix(a.nacks[0], `Secret "inbound": tls_certificate.private_key: `) {
					t.Errorf("NACKs %q", a.nacks)
				}
				r.caller("spiffe://td/caller").answers("two")
				for _, s := range r.Status().Resources {
					if s.API == "SDS" && s.Source != "stream agent" {
						t.Errorf("%s comes from %q", s.Name, s.Source)
					}
				}

				m.set([kinds][]proto.Message{})
				wait(2 * time.Minute)
				if a.open != 0 {
					t.Errorf("%d streams are open that nobody needs", a.open)
				}
			})
		})
	}
}

// storeSecrets writes a file of secrets, as a path_config_source names one.
func storeSecrets(t testing.TB, path string, secrets ...proto.Message) {
	t.Helper()
	out := new(discoveryv3.DiscoveryResponse)
	for _, s := range secrets {
		out.Resources = append(out.Resources, wrap(t, s))
	}
	data, err := protojson.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Replace(t, path, data)
}

// TestSecretsOfListenersFromFiles: a file of secrets is followed, and so is a directory that is
// swapped as a whole.
func TestSecretsOfListenersFromFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secrets.json")
	r := newSecureRig(t, nil, new(SupplierOptions))
	write := func(name string) {
		storeSecrets(t, path, certificateSecret("inbound", r.inboundPair(name)), certificateSecret("outbound", r.ca.Issue("spiffe://td/"+name)), trustSecret("trust", r.ca))
	}
	write("one")
	from := byFile(path)
	from.GetPathConfigSource().WatchedDirectory = &corev3.WatchedDirectory{Path: dir}
	for kind, m := range map[Kind]proto.Message{KindCluster: secureCluster(t, from), KindListener: secureListener(t, from)} {
		name, err := nameOf(wireOf(t, m))
		must(t, err)
		if why := r.Update(Update{Kind: kind, Variant: VariantDelta, Version: "1", Resources: []Resource{{Name: name, Version: "1", Body: wireOf(t, m)}}}); why != nil {
			t.Fatal(why)
		}
	}
	eventually(t, func() bool { _, err := r.caller("spiffe://td/caller").get(); return err == nil })
	held := r.caller("spiffe://td/caller")
	held.answers("one")
	write("two")
	eventually(t, func() bool { got, err := r.caller("spiffe://td/caller").get(); return err == nil && got == "two" })
	held.answers("one")

	testkit.Replace(t, path, []byte(`{"resources": [{"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "name": "inbound", "tls_certificate": {"private_key": {"inline_bytes": "very secret!"}}}]}`))
	eventually(t, func() bool { return strings.Contains(r.log.String(), "configuration file cannot be used") })
	if strings.Contains(r.log.String(), "very secret") {
		t.Errorf("the log has a key: %s", r.log)
	}
	r.caller("spiffe://td/caller").answers("two")
}

// eventually waits until ok.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal("it did not happen within a minute")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestSecretsThatDoNotCome: a listener waits for its secrets as long as their
// initial_fetch_timeout says. Then it refuses every handshake, until they come.
func TestSecretsThatDoNotCome(t *testing.T) {
	inSecureBubble(t, nil, func(r *secureRig) {
		m := snapshots(r, false)
		m.start()
		c := run(r.T, ClientOptions{Variant: VariantDelta, Sink: r.Applier}, m)
		r.OnWanted(c.Resubscribe)
		from := within(7*time.Second, adsSource())
		w := [kinds][]proto.Message{KindCluster: {secureCluster(r, from)}, KindListener: {secureListener(r, from)}}
		m.set(w)
		wait(6 * time.Second)
		if _, err := r.net.Dial(t.Context(), "127.0.0.1:10000"); err == nil {
			r.Error("the listener is served after 6 s")
		}
		if s := r.find(KindListener, "l"); s.State != Warming || !slices.Equal(s.WaitsFor, []string{"CDS up", "SDS inbound"}) {
			r.Errorf("listener is %+v", s)
		}
		wait(2 * time.Second)
		_, err := r.caller("spiffe://td/caller").get()
		synctest.Wait() // it is told after the alert is sent
		if err == nil || !strings.Contains(r.log.String(), `secret \"inbound\" has not come`) {
			r.Errorf("got %v, want a handshake that fails, and why", err)
		}
		w[KindSecret] = []proto.Message{certificateSecret("inbound", r.inboundPair("one")), trustSecret("trust", r.ca)}
		m.set(w)
		wait(time.Second)
		if _, err := r.caller("spiffe://td/caller").get(); err == nil || !strings.Contains(err.Error(), "503") {
			r.Errorf("got %v, want 503: the cluster's secret has not come", err)
		}
		w[KindSecret] = append(w[KindSecret], certificateSecret("outbound", r.ca.Issue("spiffe://td/one")))
		m.set(w)
		wait(time.Second)
		r.caller("spiffe://td/caller").answers("one")
	})
}

// find is rig.find.
func (r *secureRig) find(kind Kind, name string) ResourceStatus {
	r.Helper()
	for _, s := range r.Status().Resources {
		if s.API == kind.String() && s.Name == name {
			return s
		}
	}
	r.Fatalf("no %s %s", kind, name)
	return ResourceStatus{}
}

// TestSecretsStaySecret: no page, log or file has a key.
func TestSecretsStaySecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := newSecureRig(t, func(o *ApplierOptions) { o.StateDir = dir }, nil)
		m := snapshots(t, false)
		m.start()
		c := run(t, ClientOptions{Variant: VariantDelta, Sink: r.Applier}, m)
		r.OnWanted(c.Resubscribe)
		inbound, outbound, inline := r.inboundPair("one"), r.ca.Issue("spiffe://td/one"), r.inboundPair("inline")
		open := httpListener(t, "open", manyRoutes("r", 1, []string{"up"}, "up"), "")
		open.Address = tcp("127.0.0.1", 10001)
		within := secureListener(t, adsSource())
		within.Name, within.Address = "within", tcp("127.0.0.1", 10002)
		within.FilterChains[0].TransportSocket = tlsSocket(t, "tls", downstreamOf(inline))
		mixed := r.inboundPair("two")
		mixed.Key = r.inboundPair("three").Key
		m.set([kinds][]proto.Message{
			KindCluster: {secureCluster(t, adsSource())}, KindListener: {secureListener(t, adsSource()), open, within},
			KindSecret: {certificateSecret("inbound", inbound), certificateSecret("outbound", outbound), trustSecret("trust", r.ca)},
		})
		wait(time.Second)
		r.caller("spiffe://td/caller").answers("one")
		m.set([kinds][]proto.Message{
			KindCluster: {secureCluster(t, adsSource())}, KindListener: {secureListener(t, adsSource()), open, within},
			KindSecret: {certificateSecret("inbound", mixed), certificateSecret("outbound", outbound), trustSecret("trust", r.ca)},
		})
		wait(10 * time.Second)
		state, err := os.ReadFile(filepath.Join(dir, stateFile))
		must(t, err)
		dump, err := r.ConfigDump(new(bootstrapv3.Bootstrap), true, "")
		must(t, err)
		status, err := json.Marshal(r.Status())
		must(t, err)
		csds, err := proto.Marshal(r.ClientConfig(new(corev3.Node), true))
		must(t, err)
		for where, text := range map[string][]byte{"the state file": state, "/config_dump": dump, "/xds/status": status, "CSDS": csds, "the log": []byte(r.log.String()), "a NACK": []byte(strings.Join(m.nacks, ""))} {
			if len(text) == 0 {
				t.Errorf("%s is empty", where)
			}
			for _, p := range []testkit.Pair{inbound, outbound, inline, mixed} {
				// A line of the key is enough to find it, however it is written.
				line := bytes.Split(p.Key, []byte("\n"))[1]
				raw, err := json.Marshal(p.Key)
				must(t, err)
				encoded := bytes.Trim(raw, `"`)
				if bytes.Contains(text, line) || bytes.Contains(text, encoded[40:80]) {
					t.Errorf("%s has a key", where)
				}
			}
		}
		for _, part := range []string{`"inbound"`, `"dynamic_active_secrets"`, base64.StdEncoding.EncodeToString([]byte(compile.Redacted))} {
			if !bytes.Contains(dump, []byte(part)) {
				t.Errorf("/config_dump has no %s", part)
			}
		}
		if !bytes.Contains(state, []byte("open")) || bytes.Contains(state, []byte("within")) {
			t.Error("the state file has to have what holds no key, and nothing else")
		}
	})
}
