package h2

import "github.com/quadnine/quadnine/proxy/field"

type response struct {
	interim bool
	success bool  // 2xx
	length  int64 // bytes of body that must come, or noLength
}

// checkResponse judges the received head in c.head (RFC 9113 section 8.3.2).
func (c *Conn) checkResponse(toHead bool) (r response, bad string) {
	head := &c.head
	length, regular, status := int64(noLength), false, 0
	spans := head.Spans()
	for i := range spans {
		if spans[i].Kind == kindPlain {
			regular = true
			continue
		}
		name := head.Name(i)
		if len(name) == 0 || name[0] != ':' {
			regular = true
			if bad = checkField(head, i, &length); bad != "" {
				return r, bad
			}
			continue
		}
		var ok bool
		switch {
		case regular:
			return r, "a pseudo-header field follows a field"
		case string(name) != ":status":
			return r, "an unknown pseudo-header field"
		case status != 0:
			return r, "a pseudo-header field is repeated"
		default:
			if status, ok = parseStatus(head.Value(i)); !ok {
				return r, ":status is not three digits"
			}
		}
	}
	switch status {
	case 0:
		return r, ":status is missing"
	case 101:
		return r, "101 is not used in HTTP/2" // RFC 9113 section 8.6
	}
	r.interim = status < 200
	r.success = status/100 == 2
	r.length = length
	if bodiless(status) || toHead {
		r.length = 0
	}
	if length != noLength && status != 304 && bodiless(status) { // RFC 9110 section 8.6
		head.Del("content-length")
	}
	return r, ""
}

// bodiless reports whether a status never has a body (RFC 9110 section 6.4.1).
func bodiless(status int) bool { return status < 200 || status == 204 || status == 304 }

// statusOf returns the status of a head to be sent, or 0.
func statusOf(head *field.List) int {
	n, _ := parseStatus(head.Get(":status"))
	return n
}
