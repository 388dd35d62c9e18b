package field

// ForbiddenTrailer reports whether a field called name frames, routes, authenticates
// or modifies a message, or belongs to a connection: after the body it comes too late
// (RFC 9110 section 6.5.1). The name is in lower case.
func ForbiddenTrailer(name []byte) bool {
	switch string(name) {
	case "content-length", "transfer-encoding", "host", "connection", "keep-alive", "proxy-connection",
		"te", "trailer", "upgrade", "http2-settings",
		"content-encoding", "content-type", "content-range", "range", "expect", "max-forwards", "cache-control",
		"authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate", "cookie", "set-cookie":
		return true
	}
	return false
}
