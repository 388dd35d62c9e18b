package h2

// Preface is what a client sends first (RFC 9113 section 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// PrefacePrefix tells HTTP/2 from other protocols by a connection's first bytes:
// match says that p agrees with the preface as far as both go, complete that p
// holds all of it.
func PrefacePrefix(p []byte) (match, complete bool) {
	n := min(len(p), len(Preface))
	return string(p[:n]) == Preface[:n], n == len(Preface) && string(p[:n]) == Preface
}

// readPreface takes what p has of the client's preface.
func (c *Conn) readPreface(p []byte) []byte {
	want := Preface[len(Preface)-c.prefaceLeft:]
	n := min(len(p), len(want))
	if string(p[:n]) != want[:n] {
		c.fail(ProtocolError, "the connection does not begin with the HTTP/2 preface")
		return nil
	}
	c.prefaceLeft -= n
	return p[n:]
}
