package snapshot

import "strconv"

// SourceKind is where a key's part is read from.
type SourceKind uint8

// The kinds of sources.
const (
	FromHeader      SourceKind = iota // the first value of a header field
	FromQuery                         // a query parameter
	FromPathSegment                   // the n-th segment of the path, from 0
	FromGRPCMethod                    // a gRPC request's path without its slash: "pkg.Svc/Query"
)

// KeySource is one place to look for a tenant or a metric.
type KeySource struct {
	Kind  SourceKind
	Name  string // header (lower-case) or query parameter
	Index int    // path segment
}

// String returns the source as an error message names it.
func (k KeySource) String() string {
	switch k.Kind {
	case FromHeader:
		return "header " + k.Name
	case FromQuery:
		return "query parameter " + k.Name
	case FromPathSegment:
		return "path segment " + strconv.Itoa(k.Index)
	default:
		return "gRPC method"
	}
}

// Keys says how a request is named; sources are tried in order.
type Keys struct {
	Tenant        []KeySource
	Metric        []KeySource
	User          []KeySource // who of the tenant asks: only for drawing who gets a canary
	RequireTenant bool        // 400 without a tenant, instead of quadnine.OtherTenant
}

// DefaultKeys are the sources when nothing is configured. A tenant from a plain
// header can be forged by the caller.
func DefaultKeys() Keys {
	return Keys{
		Tenant: []KeySource{{Kind: FromHeader, Name: "x-tenant-id"}, {Kind: FromQuery, Name: "tenant"}},
		Metric: []KeySource{{Kind: FromQuery, Name: "metric"}, {Kind: FromHeader, Name: "x-metric"}},
		User:   []KeySource{{Kind: FromHeader, Name: "x-user-id"}},
	}
}
