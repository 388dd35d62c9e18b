package h2

import (
	"bytes"

	"github.com/quadnine/quadnine/proxy/field"
)

const badLength = "content-length differs from the body"

// noLength is the content-length of a message that names none.
const noLength = -1

// checkField judges one field that is not a pseudo-header field and returns what
// is wrong with it (RFC 9113 section 8.2). length collects content-length.
func checkField(l *field.List, i int, length *int64) string {
	name, value := l.Name(i), l.Value(i)
	if !field.ValidLowerName(name) {
		return "a field name is not valid"
	}
	if !field.ValidValue(value) {
		return "a field value is not valid"
	}
	switch string(name) {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return "a connection-specific field is present"
	case "te":
		if !bytes.EqualFold(value, []byte("trailers")) {
			return "te is not trailers"
		}
	case "content-length":
		n, ok := parseLength(value)
		switch {
		case !ok:
			return "content-length is not a number"
		case *length != noLength: // RFC 9110 section 8.6
			return "content-length is repeated"
		default:
			*length = n
		}
	}
	return ""
}

// parseLength reads digits only: no sign, no list, no space.
func parseLength(p []byte) (int64, bool) {
	if len(p) == 0 || len(p) > 18 { // 18 digits cannot overflow
		return 0, false
	}
	var n int64
	for _, d := range p {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + int64(d-'0')
	}
	return n, true
}

// parseStatus reads three digits, 100 to 999.
func parseStatus(p []byte) (int, bool) {
	n, ok := parseLength(p)
	return int(n), ok && len(p) == 3 && n >= 100
}

// checkTrailers judges the received trailers in c.head, and deletes what has no
// place there.
func (c *Conn) checkTrailers() string {
	length := int64(noLength)
	for i := range c.head.Len() {
		name := c.head.Name(i)
		if len(name) > 0 && name[0] == ':' {
			return "trailers hold a pseudo-header field"
		}
		if bad := checkField(&c.head, i, &length); bad != "" {
			return bad
		}
		if field.ForbiddenTrailer(name) { // no later hop has to choose
			c.head.DelAt(i)
		}
	}
	return ""
}

// singled reports whether a rule of its own applies to fields of that name: those
// of checkField, and host.
func singled(name []byte) bool {
	switch string(name) {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "te", "content-length", "host":
		return true
	}
	return false
}

// hopNames are the names that writeBlock looks at twice.
var hopNames = field.NamesOf("connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "http2-settings", "te", "host")

// hopField reports whether a field belongs to one connection of an earlier
// protocol and must not be sent (RFC 9113 section 8.2.2).
func hopField(name, value []byte) bool {
	switch string(name) {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "http2-settings":
		return true
	case "te":
		return !bytes.EqualFold(value, []byte("trailers"))
	}
	return false
}
