package snapshot

import "maps"

// Operator is a command operator of access logs and header values.
type Operator uint8

// The operators. Names are Envoy's.
const (
	OpLiteral Operator = iota
	OpReq
	OpResp
	OpTrailer
	OpStartTime
	OpProtocol
	OpResponseCode
	OpResponseCodeDetails
	OpResponseFlags
	OpBytesReceived
	OpBytesSent
	OpDuration
	OpUpstreamHost
	OpUpstreamCluster
	OpDownstreamRemoteAddress
	OpDownstreamRemoteAddressWithoutPort
	OpDownstreamLocalAddress
	OpRouteName
	OpVirtualHostName
	OpRequestDuration
	OpResponseDuration
	OpHostname
	OpUpstreamTransportFailureReason
	OpRequestedServerName
	OpConnectionTerminationDetails
	OpUpstreamLocalAddress
	OpDownstreamDirectRemoteAddress
	OpEmpty // an operator that never has a value here
)

// takes is what an operator takes in parentheses.
type takes uint8

const (
	takesNothing   takes = iota
	takesFields          // one or two fields' names
	takesSomething       // something that must be there
	takesAnything
)

type operator struct {
	op    Operator
	takes takes
	max   bool // whether a length may follow
}

// operators are those that a format may hold.
var operators = func() map[string]operator {
	all := map[string]operator{
		"REQ":                                    {OpReq, takesFields, true},
		"RESP":                                   {OpResp, takesFields, true},
		"TRAILER":                                {OpTrailer, takesFields, true},
		"START_TIME":                             {OpStartTime, takesAnything, false},
		"PROTOCOL":                               {op: OpProtocol},
		"RESPONSE_CODE":                          {op: OpResponseCode},
		"RESPONSE_CODE_DETAILS":                  {OpResponseCodeDetails, takesAnything, false},
		"RESPONSE_FLAGS":                         {op: OpResponseFlags},
		"BYTES_RECEIVED":                         {op: OpBytesReceived},
		"BYTES_SENT":                             {op: OpBytesSent},
		"DURATION":                               {op: OpDuration},
		"REQUEST_DURATION":                       {op: OpRequestDuration},
		"RESPONSE_DURATION":                      {op: OpResponseDuration},
		"UPSTREAM_HOST":                          {op: OpUpstreamHost},
		"UPSTREAM_REMOTE_ADDRESS":                {op: OpUpstreamHost}, // an endpoint has one address
		"UPSTREAM_LOCAL_ADDRESS":                 {op: OpUpstreamLocalAddress},
		"UPSTREAM_CLUSTER":                       {op: OpUpstreamCluster},
		"UPSTREAM_CLUSTER_RAW":                   {op: OpUpstreamCluster}, // alt_stat_name is not supported
		"DOWNSTREAM_REMOTE_ADDRESS":              {op: OpDownstreamRemoteAddress},
		"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": {op: OpDownstreamRemoteAddressWithoutPort},
		"DOWNSTREAM_DIRECT_REMOTE_ADDRESS":       {op: OpDownstreamDirectRemoteAddress},
		"DOWNSTREAM_LOCAL_ADDRESS":               {op: OpDownstreamLocalAddress},
		"ROUTE_NAME":                             {op: OpRouteName},
		"VIRTUAL_HOST_NAME":                      {op: OpVirtualHostName},
		"HOSTNAME":                               {op: OpHostname},
		"REQUESTED_SERVER_NAME":                  {op: OpRequestedServerName},
		"CONNECTION_TERMINATION_DETAILS":         {op: OpConnectionTerminationDetails},
		"UPSTREAM_TRANSPORT_FAILURE_REASON":      {op: OpUpstreamTransportFailureReason},
	}
	maps.Copy(all, emptyOperators)
	return all
}()

// emptyOperators never have a value, because what they speak of does not occur.
var emptyOperators = map[string]operator{
	// Connections without TLS have no certificates and no TLS session.
	"DOWNSTREAM_PEER_SUBJECT":             {op: OpEmpty},
	"DOWNSTREAM_LOCAL_SUBJECT":            {op: OpEmpty},
	"DOWNSTREAM_PEER_ISSUER":              {op: OpEmpty},
	"DOWNSTREAM_PEER_FINGERPRINT_256":     {op: OpEmpty},
	"DOWNSTREAM_PEER_FINGERPRINT_1":       {op: OpEmpty},
	"DOWNSTREAM_PEER_SERIAL":              {op: OpEmpty},
	"DOWNSTREAM_PEER_URI_SAN":             {op: OpEmpty},
	"DOWNSTREAM_LOCAL_URI_SAN":            {op: OpEmpty},
	"DOWNSTREAM_PEER_DNS_SAN":             {op: OpEmpty},
	"DOWNSTREAM_LOCAL_DNS_SAN":            {op: OpEmpty},
	"DOWNSTREAM_PEER_IP_SAN":              {op: OpEmpty},
	"DOWNSTREAM_LOCAL_IP_SAN":             {op: OpEmpty},
	"DOWNSTREAM_PEER_EMAIL_SAN":           {op: OpEmpty},
	"DOWNSTREAM_LOCAL_EMAIL_SAN":          {op: OpEmpty},
	"DOWNSTREAM_PEER_CERT":                {op: OpEmpty},
	"DOWNSTREAM_PEER_CERT_V_START":        {OpEmpty, takesAnything, false},
	"DOWNSTREAM_PEER_CERT_V_END":          {OpEmpty, takesAnything, false},
	"DOWNSTREAM_TLS_VERSION":              {op: OpEmpty},
	"DOWNSTREAM_TLS_CIPHER":               {op: OpEmpty},
	"DOWNSTREAM_TLS_SESSION_ID":           {op: OpEmpty},
	"DOWNSTREAM_TRANSPORT_FAILURE_REASON": {op: OpEmpty},
	"UPSTREAM_PEER_SUBJECT":               {op: OpEmpty},
	"UPSTREAM_PEER_ISSUER":                {op: OpEmpty},
	"UPSTREAM_PEER_CERT":                  {op: OpEmpty},
	"UPSTREAM_TLS_VERSION":                {op: OpEmpty},
	"UPSTREAM_TLS_CIPHER":                 {op: OpEmpty},
	"UPSTREAM_TLS_SESSION_ID":             {op: OpEmpty},

	// No filter that is supported writes metadata or filter state.
	"DYNAMIC_METADATA":      {OpEmpty, takesSomething, true},
	"FILTER_STATE":          {OpEmpty, takesSomething, true},
	"UPSTREAM_FILTER_STATE": {OpEmpty, takesSomething, true},

	// Virtual clusters are not supported.
	"VIRTUAL_CLUSTER_NAME": {op: OpEmpty},
}
