// Package field holds the header fields of one message (RFC 9110 section 5) in
// the form that both protocol engines share: bytes in one arena, spans into it.
//
// Names are lower-case, pseudo-header fields (":method", ":status") come first,
// and the order of fields is kept. A List is reused by Reset, so that a message
// costs no allocation once its arena has grown.
//
// # Concurrency
//
// A List belongs to one goroutine at a time.
package field
