package proxy

import (
	"bytes"
	"strconv"

	"github.com/quadnine/quadnine/snapshot"
)

// answerRoute makes a direct response or a redirection the reply.
func (x *Exchange) answerRoute() {
	if d := x.Route.Direct; d != nil {
		name, location := "", ""
		if d.Status == 201 || d.Status/100 == 3 { // these statuses are of little use without (RFC 9110 section 15.3.2)
			x.loop.scratch = x.appendLocation(x.loop.scratch[:0], new(snapshot.Redirect))
			name, location = "location", string(x.loop.scratch)
		}
		x.sayPlainly(&plain{status: d.Status, text: string(d.Body), details: "direct_response"}, "", name, location)
		return
	}
	x.loop.scratch = x.appendLocation(x.loop.scratch[:0], x.Route.Redirect)
	x.sayPlainly(&plain{status: x.Route.Redirect.Status, details: "direct_response"}, "", "location", string(x.loop.scratch))
}

// appendLocation appends the URL that r redirects to.
func (x *Exchange) appendLocation(dst []byte, r *snapshot.Redirect) []byte {
	scheme := string(x.req.Get(":scheme"))
	authority := x.req.Get(":authority")
	host, port := splitPort(authority)
	switch {
	case r.HTTPS:
		scheme = "https"
	case r.Scheme != "":
		scheme = r.Scheme
	}
	if was := string(x.req.Get("x-forwarded-proto")); was != scheme && (was == "http" && port == "80" || was == "https" && port == "443") {
		port = "" // it said no more than the scheme did
	}
	dst = append(append(dst, scheme...), "://"...)
	if r.Host != "" {
		dst = append(dst, r.Host...)
		port = ""
	} else {
		dst = append(dst, host...)
	}
	switch {
	case r.Port != 0:
		dst = strconv.AppendUint(append(dst, ':'), uint64(r.Port), 10)
	case port != "":
		dst = append(append(dst, ':'), port...)
	}
	return x.appendTarget(dst, r)
}

// splitPort cuts the port off an authority; "" when there is none.
func splitPort(authority []byte) (host []byte, port string) {
	i := bytes.LastIndexByte(authority, ':')
	if i < 0 || bytes.IndexByte(authority[i:], ']') >= 0 {
		return authority, ""
	}
	return authority[:i], string(authority[i+1:])
}

// appendTarget appends the path and the query of the URL.
func (x *Exchange) appendTarget(dst []byte, r *snapshot.Redirect) []byte {
	target := x.req.Get(":path")
	path, query := target, []byte(nil)
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		path, query = target[:i], target[i:]
	}
	if r.StripQuery {
		query = nil
	}
	switch {
	case r.Path != "":
		dst = append(dst, r.Path...)
		if bytes.IndexByte([]byte(r.Path), '?') >= 0 {
			return dst // it has one of its own
		}
		return append(dst, query...)
	case r.PrefixRewrite != "", r.RegexRewrite != nil:
		dst = appendRewritten(dst, path, &x.Route.Match, r.PrefixRewrite, r.RegexRewrite)
		return append(dst, query...)
	default:
		return append(append(dst, path...), query...)
	}
}
