package proxy

import (
	"bytes"
	"net/netip"
	"strconv"
	"time"

	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/snapshot"
)

// appendFormat appends what f says of the exchange as it stands. An operator
// without a value gives missing: "" in header values, "-" in access logs.
func (x *Exchange) appendFormat(dst []byte, f snapshot.Format, missing string) []byte {
	for i := range f {
		p := &f[i]
		if p.Op == snapshot.OpLiteral {
			dst = append(dst, p.Literal...)
			continue
		}
		var ok bool
		if dst, ok = x.appendOperator(dst, p); !ok {
			dst = append(dst, missing...)
		}
	}
	return dst
}

// appendOperator appends p's value, and reports false when it has none.
func (x *Exchange) appendOperator(dst []byte, p *snapshot.FormatPart) (out []byte, ok bool) {
	switch p.Op {
	case snapshot.OpReq:
		return appendField(dst, &x.req, p)
	case snapshot.OpResp:
		return appendField(dst, &x.resp, p)
	case snapshot.OpTrailer:
		return appendField(dst, &x.trailers, p)
	case snapshot.OpStartTime:
		return x.appendStart(dst, p), true
	case snapshot.OpProtocol:
		if x.conn.h2 {
			return clipTo(dst, "HTTP/2", p.Max)
		}
		return clipTo(dst, "HTTP/1.1", p.Max)
	case snapshot.OpResponseCode:
		return strconv.AppendInt(dst, int64(x.code()), 10), true
	case snapshot.OpResponseCodeDetails:
		switch {
		case x.details != "":
			return clipTo(dst, x.details, p.Max)
		case x.headSeen && !x.isLocal:
			return clipTo(dst, "via_upstream", p.Max)
		}
	case snapshot.OpResponseFlags:
		return x.flags.appendTo(dst), true
	case snapshot.OpBytesReceived:
		return strconv.AppendInt(dst, x.received, 10), true
	case snapshot.OpBytesSent:
		return strconv.AppendInt(dst, x.sent, 10), true
	case snapshot.OpDuration:
		return strconv.AppendInt(dst, (x.loop.shard.Now()-x.start)/int64(time.Millisecond), 10), true
	case snapshot.OpRequestDuration:
		return x.appendSince(dst, x.wholeAt)
	case snapshot.OpResponseDuration:
		return x.appendSince(dst, x.headAt)
	case snapshot.OpUpstreamHost:
		if x.endpoint != nil {
			return clipTo(dst, x.endpoint.Address, p.Max)
		}
	case snapshot.OpUpstreamCluster:
		if x.clusterName != "" {
			return clipTo(dst, x.clusterName, p.Max)
		}
	case snapshot.OpUpstreamTransportFailureReason:
		if x.transport != "" {
			return clipTo(dst, x.transport, p.Max)
		}
	case snapshot.OpRouteName:
		if x.Route != nil && x.Route.Name != "" {
			return clipTo(dst, x.Route.Name, p.Max)
		}
	case snapshot.OpVirtualHostName:
		if x.host != nil && x.host.Name != "" {
			return clipTo(dst, x.host.Name, p.Max)
		}
	case snapshot.OpHostname:
		if name := x.loop.server.hostname; name != "" {
			return clipTo(dst, name, p.Max)
		}
	default:
		return x.appendAddress(dst, p.Op)
	}
	return dst, false
}

// appendAddress appends one of the connection's addresses. Operators that never
// have a value here come here too.
func (x *Exchange) appendAddress(dst []byte, op snapshot.Operator) (out []byte, ok bool) {
	switch op {
	case snapshot.OpDownstreamRemoteAddress:
		if a := x.caller(); a.IsValid() {
			return a.AppendTo(dst), true
		}
	case snapshot.OpDownstreamRemoteAddressWithoutPort:
		if a := x.caller().Addr(); a.IsValid() {
			return a.AppendTo(dst), true
		}
	case snapshot.OpDownstreamDirectRemoteAddress:
		if x.conn.remote.IsValid() {
			return x.conn.remote.AppendTo(dst), true
		}
	case snapshot.OpDownstreamLocalAddress:
		if x.conn.local.IsValid() {
			return x.conn.local.AppendTo(dst), true
		}
	case snapshot.OpUpstreamLocalAddress:
		if a := x.want.Local; a != nil {
			return a.AppendTo(dst), true
		}
	}
	return dst, false
}

// caller returns who asks: the connection's peer, or whom proxies in front name.
func (x *Exchange) caller() netip.AddrPort {
	if x.remote.IsValid() {
		return x.remote
	}
	return x.conn.remote
}

func clipTo(dst []byte, s string, n int) ([]byte, bool) {
	if n > 0 && len(s) > n {
		s = s[:n]
	}
	return append(dst, s...), true
}

// appendField appends the first value of the field that p names.
func appendField(dst []byte, l *field.List, p *snapshot.FormatPart) ([]byte, bool) {
	v := l.Get(p.Name)
	if v == nil && p.Alt != "" {
		v = l.Get(p.Alt)
	}
	if v == nil {
		return dst, false
	}
	if p.Max > 0 && len(v) > p.Max {
		v = v[:p.Max]
	}
	return append(dst, v...), true
}

// appendSince appends how long after the request's first byte at was, in ms; at
// is 0 for what did not happen.
func (x *Exchange) appendSince(dst []byte, at int64) ([]byte, bool) {
	if at == 0 {
		return dst, false
	}
	return strconv.AppendInt(dst, (at-x.start)/int64(time.Millisecond), 10), true
}

// code is the response's status, 0 while it has none.
func (x *Exchange) code() int {
	if x.headSent || x.headSeen && !x.isLocal {
		return x.status
	}
	return 0
}

// appendStart appends when the exchange began, in UTC, as the layout says.
func (x *Exchange) appendStart(dst []byte, p *snapshot.FormatPart) []byte {
	t := x.loop.shard.Time(x.start).UTC()
	if p.Name == snapshot.DefaultTimeLayout {
		return t.AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	}
	from := len(dst)
	dst = appendTime(dst, t, p.Name)
	if p.Max > 0 && len(dst)-from > p.Max {
		dst = dst[:from+p.Max]
	}
	return dst
}

// goLayouts are the conversions of strftime that Go's time package has.
var goLayouts = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'M': "04", 'S': "05",
	'p': "PM", 'b': "Jan", 'h': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday", 'j': "002", 'Z': "MST", 'z': "-0700",
	'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06", 'c': "Mon Jan _2 15:04:05 2006", 'r': "03:04:05 PM",
	'x': "01/02/06", 'X': "15:04:05",
}

// appendTime appends t in a layout of strftime, with what Envoy adds: %f is the
// second's fraction, with a number of digits before it, as in %3f; %E3S are
// seconds with three decimals; %s are seconds since 1970, and %s with %f in one
// layout tell the same moment.
func appendTime(dst []byte, t time.Time, layout string) []byte {
	for i := 0; i < len(layout); i++ {
		c := layout[i]
		if c != '%' || i+1 == len(layout) {
			dst = append(dst, c)
			continue
		}
		i++
		switch c = layout[i]; {
		case c == '%':
			dst = append(dst, '%')
		case c == 's':
			dst = strconv.AppendInt(dst, t.Unix(), 10)
		case c == 'n' || c == 't':
			dst = append(dst, ' ')
		case c == 'f':
			dst = appendFraction(dst, t, 9)
		case '1' <= c && c <= '9' && i+1 < len(layout) && layout[i+1] == 'f':
			dst = appendFraction(dst, t, int(c-'0'))
			i++
		case c == 'E' && i+2 < len(layout) && layout[i+2] == 'S' && '0' <= layout[i+1] && layout[i+1] <= '9':
			dst = t.AppendFormat(dst, "05")
			if n := int(layout[i+1] - '0'); n > 0 {
				dst = appendFraction(append(dst, '.'), t, n)
			}
			i += 2
		default:
			if l, ok := goLayouts[c]; ok {
				dst = t.AppendFormat(dst, l)
			} else {
				dst = append(dst, '%', c)
			}
		}
	}
	return dst
}

// appendFraction appends the first n digits of the fraction of t's second.
func appendFraction(dst []byte, t time.Time, n int) []byte {
	var digits [9]byte
	ns := t.Nanosecond()
	for i := 8; i >= 0; i-- {
		digits[i] = byte('0' + ns%10)
		ns /= 10
	}
	return append(dst, digits[:n]...)
}

// appendJSONString appends s as a JSON string.
func appendJSONString(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for len(s) > 0 {
		i := bytes.IndexFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r == '\uFFFD' || r == 0x7f })
		if i < 0 {
			dst = append(dst, s...)
			break
		}
		dst = append(dst, s[:i]...)
		switch c := s[i]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default: // a control character, or no UTF-8
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		s = s[i+1:]
	}
	return append(dst, '"')
}
