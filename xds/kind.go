package xds

// Kind is a type of resource. Kinds are asked for in the order of their values,
// so that what a resource names is there when it arrives.
type Kind uint8

// The kinds.
const (
	KindCluster Kind = iota
	KindEndpoints
	KindListener
	KindRoutes
	KindRuntime
	KindSecret
	kinds // how many there are
)

var kindNames = [kinds]struct{ name, short, url string }{
	{"Cluster", "CDS", "type.googleapis.com/envoy.config.cluster.v3.Cluster"},
	{"ClusterLoadAssignment", "EDS", "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"},
	{"Listener", "LDS", "type.googleapis.com/envoy.config.listener.v3.Listener"},
	{"RouteConfiguration", "RDS", "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"},
	{"Runtime", "RTDS", "type.googleapis.com/envoy.service.runtime.v3.Runtime"},
	{"Secret", "SDS", "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"},
}

// Kinds returns all kinds in the order in which they are asked for.
func Kinds() []Kind {
	return []Kind{KindCluster, KindEndpoints, KindListener, KindRoutes, KindRuntime, KindSecret}
}

// KindOf returns the kind of resources with the given type URL, and whether it
// is one that quadnine knows.
func KindOf(typeURL string) (Kind, bool) {
	for k, n := range kindNames {
		if n.url == typeURL {
			return Kind(k), true
		}
	}
	return 0, false
}

// String returns the short name of the API that serves the kind: "CDS".
func (k Kind) String() string { return kindNames[k].short }

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Message returns the name of the message: "Cluster".
func (k Kind) Message() string { return kindNames[k].name }

// TypeURL returns the type URL of the kind's resources.
func (k Kind) TypeURL() string { return kindNames[k].url }

// Wildcard reports whether all resources of the kind are asked for, rather than
// some by name.
func (k Kind) Wildcard() bool { return k == KindCluster || k == KindListener }
