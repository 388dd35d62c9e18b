package proxy

import (
	"fmt"
	"strings"
	"testing"
)

// said is a message as one end of a bridge writes it: raw over HTTP/1.1, as a list
// of names and values over HTTP/2. What one protocol cannot say is left out.
type said struct {
	h1       string   // from the first line to the last byte; {row} becomes the path
	fields   []string // {row} likewise
	body     string
	trailers []string
	endHead  bool // END_STREAM although it is an interim response
	eof      bool // over HTTP/1.1 the connection ends after it
}

// The verdicts on a message.
type verdict uint8

const (
	refused verdict = iota // nothing of it is passed on
	passed                 // it is, without what has no place in it
	cut                    // it was begun and is aborted, so that nobody takes it for complete
)

func (v verdict) String() string { return [...]string{"refused", "passed", "cut"}[v] }

// family is a row of the tables: a way to be wrong, and what becomes of it.
type family struct {
	name string
	said
	h1is, h2is verdict  // by what it comes over
	gone       []string // must not be in what is passed on, in lower case
	kept       []string // must be
}

const (
	get11 = "GET {row} HTTP/1.1\r\nHost: a\r\n"
	post  = "POST {row} HTTP/1.1\r\nHost: a\r\n"
)

// h2get is a request's head and these fields after it.
func h2get(fields ...string) []string {
	return append([]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "{row}"}, fields...)
}

func h2post(fields ...string) []string {
	return append([]string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", "{row}"}, fields...)
}

// badRequests are the families of RFC 9113 sections 8.2 and 8.3, RFC 9112 sections 2
// to 7, RFC 9110 sections 5 to 8.
var badRequests = []family{
	{name: "CR in a value", said: said{h1: get11 + "X: a\rb\r\n\r\n", fields: h2get("x", "a\rb")}},
	{name: "LF in a value", said: said{h1: get11 + "X: a\nb: c\r\n\r\n", fields: h2get("x", "a\nb: c")}},
	{name: "CRLF in a value", said: said{fields: h2get("x", "a\r\nx-smuggled: 1")}},
	{name: "NUL in a value", said: said{h1: get11 + "X: a\x00b\r\n\r\n", fields: h2get("x", "a\x00b")}},
	{name: "control in a value", said: said{h1: get11 + "X: a\x01b\r\n\r\n", fields: h2get("x", "a\x7fb")}},
	{name: "space round a value", said: said{h1: get11 + "X: \t a \r\n\r\n", fields: h2get("x", " a")}, h1is: passed, kept: []string{"x: a\n"}},
	{name: "line folding", said: said{h1: get11 + "X: a\r\n b\r\n\r\n"}},
	{name: "name with a colon", said: said{h1: get11 + ":x: a\r\n\r\n", fields: h2get("x:y", "a")}},
	{name: "name with a space", said: said{h1: get11 + "x y: a\r\n\r\n", fields: h2get("x y", "a")}},
	{name: "space before the colon", said: said{h1: get11 + "x : a\r\n\r\n", fields: h2get("x ", "a")}},
	{name: "name with CRLF", said: said{h1: get11 + "x\r\ny: a\r\n\r\n", fields: h2get("x\r\ny", "a")}},
	{name: "name with NUL", said: said{h1: get11 + "x\x00: a\r\n\r\n", fields: h2get("x\x00", "a")}},
	{name: "name in upper case", said: said{h1: get11 + "X-Upper: a\r\n\r\n", fields: h2get("X-Upper", "a")}, h1is: passed, kept: []string{"x-upper: a"}},
	{name: "empty name", said: said{h1: get11 + ": a\r\n\r\n", fields: h2get("", "a")}},

	{name: "connection", said: said{h1: get11 + "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\n", fields: h2get("connection", "x-hop", "x-hop", "1")}, h1is: passed, gone: []string{"x-hop", "connection"}},
	{name: "keep-alive", said: said{h1: get11 + "Keep-Alive: timeout=5\r\n\r\n", fields: h2get("keep-alive", "timeout=5")}, h1is: passed, gone: []string{"keep-alive"}},
	{name: "proxy-connection", said: said{h1: get11 + "Proxy-Connection: close\r\n\r\n", fields: h2get("proxy-connection", "close")}, h1is: passed, gone: []string{"proxy-connection"}},
	{name: "transfer-encoding", said: said{h1: post + "Transfer-Encoding: gzip, chunked\r\n\r\n", fields: h2post("transfer-encoding", "chunked")}},
	{name: "upgrade to h2c", said: said{h1: get11 + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", fields: h2get("upgrade", "h2c")}, h1is: passed, gone: []string{"upgrade", "http2-settings"}},
	{name: "te", said: said{h1: get11 + "Connection: TE\r\nTE: gzip, trailers;q=1\r\n\r\n", fields: h2get("te", "gzip")}, h1is: passed, gone: []string{"te: ", "gzip"}},
	{name: "te trailers", said: said{h1: get11 + "Connection: TE\r\nTE: trailers\r\n\r\n", fields: h2get("te", "trailers")}, h1is: passed, h2is: passed, kept: []string{"te: trailers"}},
	{name: "length hidden as a hop's", said: said{h1: post + "Connection: Content-Length\r\nContent-Length: 2\r\n\r\nhi"}, h1is: passed, kept: []string{"content-length: 2", "hi"}},

	{name: "two hosts", said: said{h1: get11 + "Host: b\r\n\r\n", fields: h2get("host", "a", "host", "a")}},
	{name: "no host", said: said{h1: "GET {row} HTTP/1.1\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http", ":path", "{row}"}}},
	{name: "empty host", said: said{h1: "GET {row} HTTP/1.1\r\nHost:\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http", ":authority", "", ":path", "{row}"}}},
	{name: "host and authority differ", said: said{fields: h2get("host", "b")}},
	{name: "host and authority agree", said: said{h1: "GET http://a{row} HTTP/1.1\r\nHost: a\r\n\r\n", fields: h2get("host", "a")}, h1is: passed, h2is: passed, kept: []string{"authority a\n"}},
	{name: "host beside an absolute target", said: said{h1: "GET http://a{row} HTTP/1.1\r\nHost: b\r\n\r\n"}, h1is: passed, kept: []string{"authority a\n"}, gone: []string{"host: b"}},
	{name: "host alone", said: said{h1: get11 + "\r\n", fields: []string{":method", "GET", ":scheme", "http", ":path", "{row}", "host", "a"}}, h1is: passed, h2is: passed, kept: []string{"authority a\n"}},
	{name: "user information", said: said{h1: "GET {row} HTTP/1.1\r\nHost: u@a\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http", ":authority", "u:p@a", ":path", "{row}"}}},
	{name: "host with a space", said: said{h1: "GET {row} HTTP/1.1\r\nHost: a b\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a b", ":path", "{row}"}}},
	{name: "host with a path", said: said{h1: "GET {row} HTTP/1.1\r\nHost: a/b\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a/b", ":path", "{row}"}}},
	{name: "port that is none", said: said{h1: "GET {row} HTTP/1.1\r\nHost: a:b\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a:b", ":path", "{row}"}}},

	{name: "length twice", said: said{h1: post + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", fields: h2post("content-length", "2", "content-length", "2"), body: "hi"}},
	{name: "two lengths", said: said{h1: post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi", fields: h2post("content-length", "2", "content-length", "3"), body: "hi"}},
	{name: "list of lengths", said: said{h1: post + "Content-Length: 2, 2\r\n\r\nhi", fields: h2post("content-length", "2, 2"), body: "hi"}},
	{name: "length with a sign", said: said{h1: post + "Content-Length: +2\r\n\r\nhi", fields: h2post("content-length", "+2"), body: "hi"}},
	{name: "negative length", said: said{h1: post + "Content-Length: -2\r\n\r\nhi", fields: h2post("content-length", "-2"), body: "hi"}},
	{name: "length in hexadecimal", said: said{h1: post + "Content-Length: 0x2\r\n\r\nhi", fields: h2post("content-length", "0x2"), body: "hi"}},
	{name: "length too large", said: said{h1: post + "Content-Length: 18446744073709551618\r\n\r\nhi", fields: h2post("content-length", "18446744073709551618"), body: "hi"}},
	{name: "empty length", said: said{h1: post + "Content-Length:\r\n\r\nhi", fields: h2post("content-length", ""), body: "hi"}},
	{name: "length and chunks", said: said{h1: post + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", fields: h2post("content-length", "2", "transfer-encoding", "chunked"), body: "hi"}},
	{name: "length above the body", said: said{h1: post + "Content-Length: 3\r\n\r\nhi", fields: h2post("content-length", "3"), body: "hi", eof: true}, h1is: cut, h2is: cut},
	{name: "length below the body", said: said{fields: h2post("content-length", "1"), body: "hi"}, h2is: cut},
	{name: "length without a body", said: said{fields: h2post("content-length", "1")}},
	{name: "chunk below its bytes", said: said{h1: post + "Transfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n0\r\n\r\n"}, h1is: cut},
	{name: "chunk size with a sign", said: said{h1: post + "Transfer-Encoding: chunked\r\n\r\n+2\r\nhi\r\n0\r\n\r\n"}, h1is: cut},
	{name: "chunk size too large", said: said{h1: post + "Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\nhi\r\n0\r\n\r\n"}, h1is: cut},
	{name: "chunks that end early", said: said{h1: post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", eof: true}, h1is: cut},

	{name: "path with a space", said: said{h1: "GET {row} b HTTP/1.1\r\nHost: a\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "{row} HTTP/1.1"}}},
	{name: "path with a control", said: said{h1: "GET {row}\x01 HTTP/1.1\r\nHost: a\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "{row}\t"}}},
	{name: "path with CRLF", said: said{fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "{row} HTTP/1.1\r\nx: y"}}},
	{name: "path with a fragment", said: said{h1: "GET {row}#x HTTP/1.1\r\nHost: a\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "{row}#x"}}},
	{name: "empty path", said: said{h1: "GET  HTTP/1.1\r\nHost: a\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", ""}}},
	{name: "path without a slash", said: said{h1: "GET x{row} HTTP/1.1\r\nHost: a\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "x{row}"}}},
	{name: "star without OPTIONS", said: said{h1: "GET * HTTP/1.1\r\nHost: a\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "*"}}},
	{name: "method with bad bytes", said: said{h1: "G@T {row} HTTP/1.1\r\nHost: a\r\n\r\n", fields: []string{":method", "GET / HTTP/1.1\r\nx: y", ":scheme", "http", ":authority", "a", ":path", "{row}"}}},
	{name: "empty method", said: said{h1: " {row} HTTP/1.1\r\nHost: a\r\n\r\n", fields: []string{":method", "", ":scheme", "http", ":authority", "a", ":path", "{row}"}}},
	{name: "scheme with bad bytes", said: said{h1: "GET ht tp://a{row} HTTP/1.1\r\nHost: a\r\n\r\n", fields: []string{":method", "GET", ":scheme", "http://b/", ":authority", "a", ":path", "{row}"}}},

	{name: "unknown pseudo-field", said: said{h1: get11 + ":x: y\r\n\r\n", fields: append([]string{":x", "y"}, h2get()...)}},
	{name: "pseudo-field of a response", said: said{fields: append([]string{":status", "200"}, h2get()...)}},
	{name: "pseudo-field twice", said: said{fields: append([]string{":path", "/x"}, h2get()...)}},
	{name: "pseudo-field after a field", said: said{fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", "x", "y", ":path", "{row}"}}},
	{name: "no method", said: said{h1: "{row} HTTP/1.1\r\nHost: a\r\n\r\n", fields: []string{":scheme", "http", ":authority", "a", ":path", "{row}"}}},
	{name: "no scheme", said: said{fields: []string{":method", "GET", ":authority", "a", ":path", "{row}"}}},
	{name: "no path", said: said{fields: []string{":method", "GET", ":scheme", "http", ":authority", "a"}}},
	{name: "protocol that was not offered", said: said{fields: append([]string{":protocol", "websocket"}, h2get()...)}},

	{name: "trailers", said: said{h1: post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n", fields: h2post(), body: "hi", trailers: []string{"x-t", "1"}}, h1is: passed, h2is: passed, kept: []string{"hi", "x-t: 1"}},
	{name: "pseudo-field in trailers", said: said{h1: post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n:path: /\r\n\r\n", fields: h2post(), body: "hi", trailers: []string{":path", "/x"}}, h1is: cut, h2is: cut},
	{name: "CRLF in trailers", said: said{h1: post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: a\rb\r\n\r\n", fields: h2post(), body: "hi", trailers: []string{"x", "a\r\nb: c"}}, h1is: cut, h2is: cut},
	{name: "connection field in trailers", said: said{h1: post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nConnection: x\r\n\r\n", fields: h2post(), body: "hi", trailers: []string{"connection", "x"}}, h1is: cut, h2is: cut},
	{name: "upper case in trailers", said: said{h1: post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Up: x\r\n\r\n", fields: h2post(), body: "hi", trailers: []string{"X-Up", "x"}}, h1is: passed, h2is: cut, kept: []string{"x-up: x"}},
	{name: "length in trailers", said: said{h1: post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nContent-Length: 2\r\n\r\n", fields: h2post(), body: "hi", trailers: []string{"content-length", "2", "x-t", "1"}}, h1is: cut, h2is: passed, gone: []string{"content-length: 2"}, kept: []string{"x-t: 1"}},
	{name: "authorization in trailers", said: said{h1: post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nAuthorization: x\r\n\r\n", fields: h2post(), body: "hi", trailers: []string{"authorization", "x", "x-t", "1"}}, h1is: cut, h2is: passed, gone: []string{"authorization"}, kept: []string{"x-t: 1"}},
}

// badResponses are those of an app.
var badResponses = []family{
	{name: "plain", said: said{h1: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nhi", fields: []string{":status", "200", "x", "y"}, body: "hi"}, h1is: passed, h2is: passed, kept: []string{"hi", "x: y"}},
	{name: "status of two digits", said: said{h1: "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", fields: []string{":status", "20"}}},
	{name: "status that is no number", said: said{h1: "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n", fields: []string{":status", "2x0"}}},
	{name: "status below 100", said: said{h1: "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", fields: []string{":status", "099"}}},
	{name: "no status", said: said{h1: "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n", fields: []string{"x", "y"}}},
	{name: "status twice", said: said{fields: []string{":status", "200", ":status", "200"}}},
	{name: "status after a field", said: said{fields: []string{"x", "y", ":status", "200"}}},
	{name: "unknown pseudo-field", said: said{h1: "HTTP/1.1 200 OK\r\n:x: y\r\nContent-Length: 0\r\n\r\n", fields: []string{":status", "200", ":x", "y"}}},
	{name: "switch that nobody asked for", said: said{h1: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", fields: []string{":status", "101"}}},
	{name: "interim head that ends", said: said{fields: []string{":status", "103"}, endHead: true}},
	{name: "CR in a value", said: said{h1: "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n", fields: []string{":status", "200", "x", "a\rb"}}},
	{name: "CRLF in a value", said: said{fields: []string{":status", "200", "x", "a\r\nset-cookie: b"}}},
	{name: "NUL in a value", said: said{h1: "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n", fields: []string{":status", "200", "x", "a\x00b"}}},
	{name: "bare LF", said: said{h1: "HTTP/1.1 200 OK\nContent-Length: 0\n\n"}},
	{name: "line folding", said: said{h1: "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"}},
	{name: "control in the reason", said: said{h1: "HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n"}},
	{name: "name with a space", said: said{h1: "HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 0\r\n\r\n", fields: []string{":status", "200", "x y", "a"}}},
	{name: "space before the colon", said: said{h1: "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n", fields: []string{":status", "200", "x ", "a"}}},
	{name: "name with a colon", said: said{fields: []string{":status", "200", "x:y", "a"}}},
	{name: "name in upper case", said: said{h1: "HTTP/1.1 200 OK\r\nX-Up: a\r\nContent-Length: 0\r\n\r\n", fields: []string{":status", "200", "X-Up", "a"}}, h1is: passed, kept: []string{"x-up: a"}},
	{name: "connection fields", said: said{h1: "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nProxy-Connection: x\r\nContent-Length: 0\r\n\r\n", fields: []string{":status", "200", "connection", "x-hop", "x-hop", "1"}}, h1is: passed, gone: []string{"x-hop", "timeout=9", "proxy-connection"}},
	{name: "transfer-encoding", said: said{h1: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", fields: []string{":status", "200", "transfer-encoding", "chunked"}}},
	{name: "upgrade", said: said{h1: "HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", fields: []string{":status", "200", "upgrade", "h2c"}}, h1is: passed, gone: []string{"upgrade", "h2c"}},
	{name: "length twice", said: said{h1: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", fields: []string{":status", "200", "content-length", "2", "content-length", "2"}, body: "hi"}},
	{name: "length with a sign", said: said{h1: "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", fields: []string{":status", "200", "content-length", "+2"}, body: "hi"}},
	{name: "length and chunks", said: said{h1: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"}},
	{name: "length above the body", said: said{h1: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", fields: []string{":status", "200", "content-length", "3"}, body: "hi", eof: true}, h1is: cut, h2is: cut},
	{name: "length below the body", said: said{h1: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhi", fields: []string{":status", "200", "content-length", "1"}, body: "hi"}, h1is: passed, h2is: cut, gone: []string{"hi"}},
	{name: "chunk below its bytes", said: said{h1: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n0\r\n\r\n"}, h1is: cut},
	{name: "chunks that end early", said: said{h1: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", eof: true}, h1is: cut},
	{name: "body until the end", said: said{h1: "HTTP/1.1 200 OK\r\n\r\nhi", eof: true}, h1is: passed, kept: []string{"hi"}},
	{name: "body of HTTP/1.0", said: said{h1: "HTTP/1.0 200 OK\r\n\r\nhi", eof: true}, h1is: passed, kept: []string{"hi"}},
	{name: "204 with a length", said: said{h1: "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi", fields: []string{":status", "204", "content-length", "2"}}, h1is: passed, h2is: passed, gone: []string{"hi", "content-length"}},
	{name: "interim head with a length", said: said{h1: "HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, h1is: passed, gone: []string{"content-length: 2"}},
	{name: "trailers", said: said{h1: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n", fields: []string{":status", "200"}, body: "hi", trailers: []string{"x-t", "1"}}, h1is: passed, h2is: passed, kept: []string{"hi", "x-t: 1"}},
	{name: "pseudo-field in trailers", said: said{h1: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n:status: 200\r\n\r\n", fields: []string{":status", "200"}, body: "hi", trailers: []string{":status", "200"}}, h1is: cut, h2is: cut},
	{name: "CRLF in trailers", said: said{h1: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: a\rb\r\n\r\n", fields: []string{":status", "200"}, body: "hi", trailers: []string{"x", "a\r\nb: c"}}, h1is: cut, h2is: cut},
	{name: "length in trailers", said: said{h1: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nContent-Length: 2\r\n\r\n", fields: []string{":status", "200"}, body: "hi", trailers: []string{"content-length", "2", "x-t", "1"}}, h1is: cut, h2is: passed, gone: []string{"content-length: 2"}, kept: []string{"x-t: 1"}},
}

// check compares what was heard with what a row wants.
func (f *family) check(t *testing.T, want verdict, got heard) {
	t.Helper()
	if got.verdict != want {
		t.Errorf("%s, want %s; heard %q", got.verdict, want, got.text)
		return
	}
	if want != passed {
		return
	}
	for _, s := range f.gone {
		if strings.Contains(got.text, s) {
			t.Errorf("%q is in what was passed on:\n%s", s, got.text)
		}
	}
	for _, s := range f.kept {
		if !strings.Contains(got.text, s) {
			t.Errorf("%q is not in what was passed on:\n%s", s, got.text)
		}
	}
}

// TestRequestHygiene: on every bridge each family of bad requests is refused, or
// cleaned, or its body is seen to be cut off by the app; and what is not passed on
// is counted.
func TestRequestHygiene(t *testing.T) {
	for _, up2 := range []bool{false, true} {
		for _, down2 := range []bool{false, true} {
			t.Run(bridgeName(down2, up2), func(t *testing.T) {
				b := newBridge(t, up2, nil)
				ask := b.ask1
				if down2 {
					ask = b.ask2
				}
				for i := range badRequests {
					f := &badRequests[i]
					want := f.h1is
					if down2 {
						want = f.h2is
					}
					if down2 && f.fields == nil || !down2 && f.h1 == "" {
						continue
					}
					t.Run(f.name, func(t *testing.T) {
						before := b.refusals()
						pause := func() {}
						if want == cut { // it is on its way when it turns out to be wrong
							for len(b.app.began) > 0 {
								<-b.app.began
							}
							pause = func() { <-b.app.began }
						}
						answer := ask(&f.said, fmt.Sprintf("/%d", i), pause)
						switch want {
						case refused:
							if answer.verdict == passed {
								t.Errorf("the caller was answered %q", answer.text)
							}
							if err := b.app.silent(); err != nil {
								t.Error(err)
							}
						case cut:
							if answer.verdict == passed {
								t.Errorf("the caller was answered %q", answer.text)
							}
							f.check(t, want, b.app.hears())
						default:
							f.check(t, passed, b.app.hears())
							if answer.verdict != passed {
								t.Errorf("the caller was answered %q", answer.text)
							}
							return
						}
						if n := b.refusals(); n == before {
							t.Error("it was not counted")
						}
					})
				}
			})
		}
	}
}

// TestResponseHygiene: so is each family of bad responses, by the caller.
func TestResponseHygiene(t *testing.T) {
	answers := make(map[string]*family)
	for i := range badResponses {
		answers[fmt.Sprintf("/%d", i)] = &badResponses[i]
	}
	for _, up2 := range []bool{false, true} {
		for _, down2 := range []bool{false, true} {
			t.Run(bridgeName(down2, up2), func(t *testing.T) {
				b := newBridge(t, up2, answers)
				ask := b.ask1
				if down2 {
					ask = b.ask2
				}
				for i := range badResponses {
					f := &badResponses[i]
					want := f.h1is
					if up2 {
						want = f.h2is
					}
					if up2 && f.fields == nil || !up2 && f.h1 == "" {
						continue
					}
					t.Run(f.name, func(t *testing.T) {
						before := b.broken()
						f.check(t, want, ask(&said{h1: get11 + "\r\n", fields: h2get()}, fmt.Sprintf("/%d", i), func() {}))
						if n := b.broken(); want != passed && n == before {
							t.Error("it was not counted")
						}
					})
				}
			})
		}
	}
}
