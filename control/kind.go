package control

import (
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
)

// Kind is a type of resource. Kinds are sent in the order of their values, so
// that what a resource names is there before it.
type Kind uint8

// The kinds.
const (
	Clusters Kind = iota
	Endpoints
	Listeners
	Routes
	Runtime
	Secrets
	kinds // how many there are
)

var kindInfo = [kinds]struct{ api, what, url string }{
	{"CDS", "cluster", resource.ClusterType},
	{"EDS", "assignment", resource.EndpointType},
	{"LDS", "listener", resource.ListenerType},
	{"RDS", "route table", resource.RouteType},
	{"RTDS", "runtime layer", resource.RuntimeType},
	{"SDS", "secret", resource.SecretType},
}

// Kinds returns all kinds in the order in which they are sent.
func Kinds() []Kind { return []Kind{Clusters, Endpoints, Listeners, Routes, Runtime, Secrets} }

// String returns the short name of the API that serves the kind: "CDS".
func (k Kind) String() string { return kindInfo[k].api }

// What returns what a resource of the kind is called: "cluster".
func (k Kind) What() string { return kindInfo[k].what }

// TypeURL returns the type URL of the kind's resources.
func (k Kind) TypeURL() string { return kindInfo[k].url }

// whole reports whether a state-of-the-world response holds all resources of the
// kind: what is not in it is gone.
func (k Kind) whole() bool { return cache.ResourceRequiresFullStateInSotw(k.TypeURL()) }

// KindOf returns the kind with the given type URL, and whether it is served.
func KindOf(typeURL string) (Kind, bool) {
	for k, i := range kindInfo {
		if i.url == typeURL {
			return Kind(k), true
		}
	}
	return 0, false
}

// kindOfMessage returns the kind of m.
func kindOfMessage(m proto.Message) (Kind, bool) {
	return KindOf(resource.APITypePrefix + string(m.ProtoReflect().Descriptor().FullName()))
}
