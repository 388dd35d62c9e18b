package policy

import "slices"

// Storable reports whether the answer to req may be stored, and if not, why:
// a short stable word for logs and metrics. It looks at header fields only; the
// caller vouches for the rest (Put).
//
// Only a 200 to GET or POST is stored. Not: an answer that depends on a request
// field outside the key, one that announces trailers, gRPC, and event streams.
func (c *Cache) Storable(status int, req, resp Fields) (ok bool, why string) {
	if m := string(req.Get(":method")); m != "GET" && m != "POST" {
		return false, "method"
	}
	if status != 200 {
		return false, "status"
	}
	if resp.Get("content-range") != nil {
		return false, "partial"
	}
	if req.Get("upgrade") != nil || resp.Get("upgrade") != nil {
		return false, "upgrade"
	}
	for i := range resp.Len() {
		switch string(resp.Name(i)) {
		case "trailer":
			return false, "trailers"
		case "content-type":
			t := resp.Value(i)
			if foldPrefix(t, []byte("application/grpc")) {
				return false, "grpc"
			}
			if foldPrefix(t, []byte("text/event-stream")) {
				return false, "event-stream"
			}
		case "vary":
			if !c.covers(resp.Value(i)) {
				return false, "vary"
			}
		}
	}
	return true, ""
}

// covers reports whether every field that a Vary value names is part of the key.
func (c *Cache) covers(vary []byte) bool {
	for m := range members(vary) {
		if !slices.ContainsFunc(c.keyed, func(k string) bool { return foldEqual(m, []byte(k)) }) {
			return false
		}
	}
	return true
}
