package xds

import (
	"time"

	"google.golang.org/grpc/codes"
)

// Resource is one resource of a response.
type Resource struct {
	Name    string
	Version string // the resource's own in delta, the response's in SotW; "" is a version like any other
	Body    []byte // what is inside the Any; the receiver may keep it
}

// ResourceError is what a server says about a resource that it does not send.
type ResourceError struct {
	Name    string
	Code    codes.Code
	Message string
}

// Final reports whether the resource is not there to be had, which asking again
// does not change (gRFC A88's data errors). Other codes are the server's passing
// trouble. Neither takes away what is cached.
func (e ResourceError) Final() bool {
	return e.Code == codes.NotFound || e.Code == codes.PermissionDenied
}

// Update is one response, without what was not asked for.
type Update struct {
	Kind      Kind
	Variant   string // "delta" or "sotw"; in "sotw", what is not in Resources of a wildcard kind is gone
	Version   string
	Nonce     string
	Resources []Resource // no name twice
	Removed   []string   // delta only
	Errors    []ResourceError

	of string // whose secrets these are; "": the aggregated stream's
}

// Rejected is one resource that was not taken, and why.
type Rejected struct {
	Name   string // "": the whole response
	Path   string // the field, from the resource down; may be empty
	Reason string
	Hint   string // what to do about it; may be empty
}

// Sink is what the protocol needs of the configuration. It is safe for concurrent
// use: besides Client.Run, each FollowFile calls it from a goroutine of its own.
type Sink interface {
	// Update takes what is valid of a response and returns the rest, which the
	// server is told. It never waits for anything to become warm.
	Update(u Update) []Rejected

	// Wanted names the resources to be subscribed to: EDS service names of
	// clusters (retained ones too), RDS names of listeners, names of RTDS layers.
	// It is nil for kinds that are asked for as a whole. It is asked after every
	// Update and Missing, and after Client.Resubscribe. Nobody changes the slice.
	Wanted(k Kind) []string

	// Versions returns the versions of what is in use, by name: of those of names,
	// or of all when it is nil. What has none, or
	// an empty one, is in it too: a server that is told of it can say that it is
	// gone.
	Versions(k Kind, names []string) map[string]string

	// FetchTimeouts returns how long those resources, which are asked for by name,
	// may take to come before they are missing; 0: for ever. For those that are not in it
	// ClientOptions say so.
	FetchTimeouts(k Kind, names []string) map[string]time.Duration

	// Missing says that no server answered for a resource within its fetch
	// timeout. The name of a kind that is asked for as a whole is "".
	Missing(k Kind, name string)

	// Connected says that the stream to a server opened, or ended. An err of nil
	// at an end means that the server closed a stream which had worked.
	Connected(server string, up bool, err error)
}
