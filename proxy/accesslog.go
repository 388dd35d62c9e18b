package proxy

import (
	"github.com/quadnine/quadnine/snapshot"
)

// maxLogs bounds the access logs that a loop remembers the files of: those of
// past configurations are forgotten.
const maxLogs = 64

// accessLog is one access log as a loop writes it.
type accessLog struct {
	*logLines
	want flags // one of these, unless all
	all  bool
	any  bool
}

// log writes the exchange into the listener's access logs. It never waits.
func (x *Exchange) log() {
	l := x.loop
	for _, cfg := range x.site.HTTP.AccessLogs {
		a := l.accessLog(cfg)
		if wanted := a.all || x.flags&a.want != 0 || a.any && x.flags != 0; !wanted {
			continue
		}
		l.scratch = l.scratch[:0]
		if cfg.JSON != nil {
			l.scratch = x.appendJSONLine(l.scratch, cfg.JSON)
		} else {
			l.scratch = x.appendFormat(l.scratch, cfg.Format, "-")
		}
		a.write(l, l.scratch)
	}
}

// accessLog finds what l writes cfg's lines with.
func (l *loop) accessLog(cfg *snapshot.AccessLog) *accessLog {
	if a := l.logs[cfg]; a != nil {
		return a
	}
	if len(l.logs) >= maxLogs {
		clear(l.logs)
	}
	a := &accessLog{want: flagsNamed(cfg.Flags), all: cfg.Flags == nil && !cfg.AnyFlag, any: cfg.AnyFlag, logLines: l.linesTo(cfg.Path)}
	l.logs[cfg] = a
	return a
}

// appendJSONLine appends the fields as one JSON object and a line feed. A value
// that is one operator keeps its type: numbers are numbers, and nothing is null.
func (x *Exchange) appendJSONLine(dst []byte, fields []snapshot.JSONField) []byte {
	l := x.loop
	dst = append(dst, '{')
	for i := range fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		f := &fields[i]
		dst = append(appendJSONString(dst, []byte(f.Name)), ':')
		if len(f.Value) == 1 && f.Value[0].Op != snapshot.OpLiteral {
			v, ok := x.appendOperator(l.joined[:0], &f.Value[0])
			l.joined = v
			switch {
			case !ok:
				dst = append(dst, "null"...)
			case numeric(f.Value[0].Op):
				dst = append(dst, v...)
			default:
				dst = appendJSONString(dst, v)
			}
			continue
		}
		l.joined = x.appendFormat(l.joined[:0], f.Value, "-")
		dst = appendJSONString(dst, l.joined)
	}
	return append(dst, "}\n"...)
}

// numeric tells the operators whose values are numbers.
func numeric(op snapshot.Operator) bool {
	switch op {
	case snapshot.OpResponseCode, snapshot.OpBytesReceived, snapshot.OpBytesSent, snapshot.OpDuration,
		snapshot.OpRequestDuration, snapshot.OpResponseDuration:
		return true
	}
	return false
}

// ending completes what access logs tell when an exchange is over.
func (x *Exchange) ending() {
	switch {
	case x.gone && x.err != nil && x.err.Op == "caller":
		if x.streamGone {
			x.flags |= downstreamRemoteReset
			x.details = "http2.remote_reset"
		} else {
			x.flags |= downstreamConnectionEnd
			x.details = "downstream_remote_disconnect"
		}
	case x.gone && x.err != nil && x.headSent:
		p := x.plainOf(x.err)
		x.flags |= p.flags
		x.details = p.details
		if !x.isLocal && len(p.details) > len(beforeResponse) && p.details[:len(beforeResponse)] == beforeResponse {
			x.details = "upstream_reset_after_response_started" + p.details[len(beforeResponse):]
		}
	}
}
