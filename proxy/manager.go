package proxy

import (
	"bytes"
	"net/netip"
	"strconv"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/snapshot"
)

// manage does to a request's head what Envoy's connection manager does before
// any filter sees it. It returns the reply for a head that is refused, else nil.
func (d decode) manage(x *Exchange) *plain {
	h := &x.site.HTTP
	if h.Underscores != snapshot.AllowUnderscores && dropUnderscored(&x.req) && h.Underscores == snapshot.RejectUnderscores {
		return errPlainUnderscore
	}
	if p := d.form(x, h); p != nil {
		return p
	}
	if !h.Proxy100 {
		x.goOn()
	}
	once(x, "x-forwarded-for")
	once(x, "x-forwarded-proto")
	d.caller(x, h)
	d.cleanse(x)
	if h.ClientCert.Mode != snapshot.SanitizeCert {
		d.clientCert(x)
	}
	if x.edge && x.remote.IsValid() {
		d.scratch = x.remote.Addr().AppendTo(d.scratch[:0])
		x.req.SetValue("x-envoy-external-address", d.scratch)
	}
	if x.internal {
		x.req.Set("x-envoy-internal", "true")
	}
	if h.GenerateRequestID && (len(x.req.Get("x-request-id")) == 0 || x.edge && !h.PreserveRequestID) {
		d.scratch = appendUUID(d.scratch[:0])
		x.req.SetOnce("x-request-id", d.scratch)
	}
	if !x.conn.h2 { // HTTP/2 callers say it themselves
		if p := x.req.Get("x-forwarded-proto"); bytes.EqualFold(p, []byte("https")) {
			x.req.Set(":scheme", "https")
		} else if bytes.EqualFold(p, []byte("http")) {
			x.req.Set(":scheme", "http")
		}
	}
	return nil
}

// dropUnderscored removes the fields whose name has an underscore, and reports
// whether there were any.
func dropUnderscored(l *field.List) (found bool) {
	for i := range l.Len() {
		if bytes.IndexByte(l.Name(i), '_') >= 0 {
			l.DelAt(i)
			found = true
		}
	}
	return found
}

// form brings the path into the form that the listener asks for.
func (d decode) form(x *Exchange, h *snapshot.HTTP) *plain {
	target := x.req.Get(":path")
	if len(target) == 0 || target[0] != '/' {
		return errPlainNoPath
	}
	path, query := target, []byte(nil)
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		path, query = target[:i], target[i:]
	}
	if !field.ASCII(target) {
		return errPlainBadPath
	}
	out, redirect := path, false
	if h.EscapedSlashes != snapshot.KeepEscaped {
		var found bool
		if d.scratch, found = unescapeSlashes(d.scratch[:0], out); found {
			if h.EscapedSlashes == snapshot.RejectEscaped {
				return errPlainBadPath
			}
			redirect = h.EscapedSlashes == snapshot.UnescapeAndRedirect
			out = d.scratch
		}
	}
	if h.NormalizePath {
		var ok bool
		if d.joined, ok = canonicalPath(d.joined[:0], out); !ok {
			return errPlainBadPath
		}
		out = d.joined
	}
	if h.MergeSlashes && bytes.Contains(out, []byte("//")) {
		d.scratch = mergeSlashes(nil, out)
		out = d.scratch
	}
	if !bytes.Equal(out, path) {
		d.scratch = append(append([]byte(nil), out...), query...)
		x.req.SetValue(":path", d.scratch)
	}
	if redirect {
		x.sayPlainly(&plain{status: 307, details: "path_normalization_failed"}, "", "location", string(x.req.Get(":path")))
		return nil
	}
	return nil
}

// once makes one field of several called name.
func once(x *Exchange, name string) {
	i := x.req.Index(name)
	if i < 0 || x.req.IndexFrom(name, i+1) < 0 {
		return
	}
	l := x.loop
	l.joined = l.joined[:0]
	for ; i >= 0; i = x.req.IndexFrom(name, i+1) {
		if len(l.joined) > 0 {
			l.joined = append(l.joined, ',')
		}
		l.joined = append(l.joined, x.req.Value(i)...)
	}
	x.req.SetValue(name, l.joined)
}

// caller finds out who asks, as far as proxies in front are believed, and notes
// the connection's own address in x-forwarded-for where that is asked for.
func (d decode) caller(x *Exchange, h *snapshot.HTTP) {
	var found netip.Addr
	skip := true
	var alone bool
	if h.UseRemoteAddress {
		skip, alone = h.SkipAppend, !x.req.Has("x-forwarded-for")
		if h.TrustedHops > 0 {
			found, _ = forwardedFor(x, h.TrustedHops-1)
		}
		if !found.IsValid() {
			found, x.remote = x.conn.remote.Addr(), x.conn.remote
		}
	} else {
		hops := h.TrustedHops
		if h.DetectXFF {
			hops, skip = h.DetectHops, h.DetectSkipAppend || h.SkipAppend
		}
		found, alone = forwardedFor(x, hops)
	}
	if !skip && x.conn.remote.IsValid() {
		d.appendCaller(x)
	}
	if h.UseRemoteAddress && h.TrustedHops == 0 || !x.req.Has("x-forwarded-proto") {
		x.req.SetFixed(x.conn.forwardedProto())
	}
	x.internal = alone && found.IsValid() && within(h.Internal, found)
	x.edge = !x.internal && h.UseRemoteAddress
	switch {
	case x.remote.IsValid():
	case found.IsValid():
		x.remote = netip.AddrPortFrom(found, 0)
	default:
		x.remote = x.conn.remote
	}
}

// What x-forwarded-proto says of a caller's connection.
var (
	protoHTTP  = field.NewFixed("x-forwarded-proto", "http")
	protoHTTPS = field.NewFixed("x-forwarded-proto", "https")
)

func (c *downConn) forwardedProto() *field.Fixed {
	if c.tls != nil {
		return protoHTTPS
	}
	return protoHTTP
}

// appendCaller appends the connection's peer to x-forwarded-for, and of a peer
// on this machine the machine's address.
func (d decode) appendCaller(x *Exchange) {
	a := x.conn.remote.Addr()
	if a.IsLoopback() && d.server.address.IsValid() {
		a = d.server.address
	}
	d.scratch = d.scratch[:0]
	if have := x.req.Get("x-forwarded-for"); len(have) > 0 {
		d.scratch = append(append(d.scratch, have...), ',')
	}
	d.scratch = a.AppendTo(d.scratch)
	x.req.SetValue("x-forwarded-for", d.scratch)
}

// forwardedFor returns the last address in x-forwarded-for but skip ones, and
// whether it is the only one.
func forwardedFor(x *Exchange, skip uint32) (a netip.Addr, alone bool) {
	v := x.req.Get("x-forwarded-for")
	if v == nil {
		return a, false
	}
	for range skip {
		i := bytes.LastIndexByte(v, ',')
		if i < 0 {
			return a, false
		}
		v = v[:i]
	}
	i := bytes.LastIndexByte(v, ',')
	a = parseAddr(bytes.TrimSpace(v[i+1:]))
	return a, a.IsValid() && i < 0 && skip == 0
}

// parseAddr reads an IP address, an IPv4 one without a garbage collector's help.
func parseAddr(b []byte) netip.Addr {
	var four [4]byte
	n, digits, value := 0, 0, 0
	for i := 0; i <= len(b); i++ {
		if i == len(b) || b[i] == '.' {
			if digits == 0 || n > 3 || value > 255 {
				n = -1
				break
			}
			four[n] = byte(value)
			n, digits, value = n+1, 0, 0
			continue
		}
		c := b[i] - '0'
		if c > 9 || digits == 3 {
			n = -1
			break
		}
		value, digits = value*10+int(c), digits+1
	}
	if n == 4 {
		return netip.AddrFrom4(four)
	}
	a, err := netip.ParseAddr(string(b))
	if err != nil {
		return netip.Addr{}
	}
	return a
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// cleanse removes the fields that only trusted callers may set, and those that
// are set anew.
func (decode) cleanse(x *Exchange) {
	referers := 0
	for i := range x.req.Len() {
		name := x.req.Name(i)
		switch {
		case len(name) < 7 || name[0] != 'x' && name[0] != 'r':
		case string(name) == "x-envoy-internal",
			string(name) == forwardedCert && x.site.HTTP.ClientCert.Mode == snapshot.SanitizeCert:
			x.req.DelAt(i)
		case bytes.HasPrefix(name, []byte("x-envoy-")):
			if !x.internal && (forInternal(name) || x.edge && forEdge(name)) {
				x.req.DelAt(i)
			}
		case string(name) == "referer":
			referers++
			if referers > 1 || !isReferer(x.req.Value(i)) {
				x.req.Del("referer")
			}
		}
	}
}

// forInternal tells the fields that only internal callers may set.
func forInternal(name []byte) bool {
	switch string(name) {
	case "x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-max-retries", "x-envoy-upstream-alt-stat-name",
		"x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-upstream-rq-timeout-alt-response",
		"x-envoy-expected-rq-timeout-ms", "x-envoy-force-trace", "x-envoy-ip-tags", "x-envoy-hedge-on-per-try-timeout",
		"x-envoy-retriable-status-codes", "x-envoy-retriable-header-names", "x-envoy-upstream-stream-duration-ms":
		return true
	}
	return false
}

// forEdge tells the fields that are no business of callers at the edge.
func forEdge(name []byte) bool {
	switch string(name) {
	case "x-envoy-decorator-operation", "x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node",
		"x-envoy-original-path", "x-envoy-original-host":
		return true
	}
	return false
}

// isReferer reports whether v can be where a caller came from: a URL without
// user information, or a path.
func isReferer(v []byte) bool {
	for _, c := range v {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	if len(v) == 0 {
		return false
	}
	if v[0] == '/' || v[0] == '*' {
		return true
	}
	if i := bytes.Index(v, []byte("://")); i >= 0 {
		for _, c := range v[:i] {
			if c|0x20 < 'a' || c|0x20 > 'z' {
				if c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') {
					return false
				}
			}
		}
		v = v[i+3:]
	}
	if i := bytes.IndexAny(v, "/?#"); i >= 0 {
		v = v[:i]
	}
	host := v
	if i := bytes.LastIndexByte(v, ':'); i >= 0 && bytes.IndexByte(v[i:], ']') < 0 {
		host = v[:i]
		if n, err := strconv.ParseUint(string(v[i+1:]), 10, 16); err != nil || n == 0 {
			return false
		}
	}
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		return parseAddr(host[1 : len(host)-1]).IsValid()
	}
	for _, c := range host {
		if name := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.'; !name {
			return false
		}
	}
	return len(host) > 0
}

// decorate does to a response's head what Envoy's connection manager does last.
func (x *Exchange) decorate() {
	h := &x.site.HTTP
	unwell := x.loop.server.unwell.Load()
	if f := x.checking; f != nil {
		x.resp.Set("x-envoy-upstream-healthchecked-cluster", x.loop.server.service)
		if !x.cached && !unwell { // what is kept is the upstream's answer, from when it gave it
			x.loop.noteHealth(f, x.status)
		}
	}
	if unwell {
		if x.filtered {
			x.resp.Set("x-envoy-immediate-health-check-fail", "true")
		}
		x.conn.leave()
	}
	if !x.resp.Has("date") {
		x.resp.AddValue("date", x.loop.today())
	}
	switch h.ServerHeader {
	case snapshot.ServerOverwrite:
		x.resp.SetFixed(x.site.server)
	case snapshot.ServerAppendIfAbsent:
		if !x.resp.Has("server") {
			x.resp.AddFixed(x.site.server)
		}
	}
}

// today returns the time as a Date field has it. It is made once a second.
func (l *loop) today() []byte {
	t := l.shard.Time(l.shard.Now())
	if s := t.Unix(); s != l.dateAt || l.date == nil {
		l.dateAt = s
		l.date = t.UTC().AppendFormat(l.date[:0], "Mon, 02 Jan 2006 15:04:05 GMT")
	}
	return l.date
}

// serve notes how long the upstream took for the response's head.
func (x *Exchange) serve() {
	if x.wholeAt != 0 && !x.upgrading && !x.site.HTTP.SuppressEnvoy { // to Envoy an upgrading request is never whole
		x.resp.Del("x-envoy-upstream-service-time")
		x.loop.serviceTimes.add(&x.resp, max(0, x.headAt-x.wholeAt)/int64(time.Millisecond))
	}
}

// refuse makes p the error that ends the exchange.
func (x *Exchange) refuse(p *plain, code quadnine.Code, origin quadnine.Origin, op string) Verdict {
	x.fail(code, origin, op, policy.Unspecified, p)
	return Reply
}
