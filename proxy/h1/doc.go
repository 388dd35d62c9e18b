// Package h1 is quadnine's HTTP/1.1 engine (RFC 9112), for both roles: the
// server role faces a caller, the client role an upstream.
//
// A Conn is a state machine without I/O: bytes in by Feed, events out through a
// Handler, bytes out by TakeOutput. It has the shape of the HTTP/2 engine:
// heads are field.Lists in HTTP/2 form, bodies are under backpressure, and an
// exchange is a Stream. A Conn carries one Stream at a time; pipelined requests
// wait unparsed until the running exchange is over in both directions.
//
// Parsing is strict, because a message that two parties read differently is a
// smuggled one: bare LF, line folding, a space before the colon, doubtful
// lengths and every transfer coding but "chunked" are refused. Nothing is
// repaired.
//
// # Concurrency
//
// A Conn and its Stream belong to one goroutine. Handler methods are called from
// inside Feed, FeedEOF and Backlog, and where their comments say so from inside
// the methods of Stream; none of them may call Feed of the same Conn.
package h1
