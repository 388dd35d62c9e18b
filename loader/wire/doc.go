// Package wire is the protocol of the shared mode: what a sidecar and a process
// that maps its model versions say to each other over a Unix stream socket. The
// page docs/shared.md describes it byte by byte, for clients in other languages.
//
// A frame is a header of 8 bytes, the body's length as uint32, its type as uint8
// and three zeros, and the body. All integers are little-endian. Descriptors come
// with the first byte of a Files frame, at most MaxFiles at a time.
//
// Parse functions check every length and count; what they return is within the
// bounds that their comments name. Whether pieces lie within a region, and windows
// within a version, is for Offer.Check to say.
//
// # Concurrency
//
// A Conn may be read by one goroutine and written by another one. Everything else
// is plain values.
package wire
