// Package h2 is the HTTP/2 connection engine (RFC 9113) in both roles: the
// server role faces the caller, the client role faces the upstream.
//
// A Conn is a state machine without I/O. Bytes go in through Feed, events come
// out of it as calls of a Handler, bytes for the peer gather in an output
// buffer that the driver takes with TakeOutput. There is no goroutine, socket,
// clock, lock or log inside: time is an argument of Feed.
//
// The 9-byte frame header and the frequent frames (HEADERS, CONTINUATION, DATA,
// RST_STREAM, WINDOW_UPDATE, PRIORITY) are parsed here, in place; DATA streams
// through as it arrives, other frames are acted on when they are complete. The
// rare frames (SETTINGS, PING, GOAWAY) go through x/net's Framer. HPACK is
// x/net's behind decode.go and encode.go.
//
// Everything a peer can make the engine hold or do is bounded by Config: streams,
// windows, header lists, continuations, resets, control frames, output.
//
// # Concurrency
//
// A Conn and its Streams belong to one goroutine at a time. A Handler may call
// every Stream method, and Shutdown, FeedEOF, OpenStream and TakeOutput, from
// inside its own methods; it must not call Feed of the same Conn there.
package h2
