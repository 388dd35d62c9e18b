// Package tlsconn puts crypto/tls between a shard's driver and a protocol engine.
//
// A handshake runs on a goroutine of its own, over the socket. From then on the
// tls.Conn works in memory: bytes that the driver read are its input, and an empty
// input answers with a temporary error, which crypto/tls does not hold against the
// connection once the handshake is over. So the shard drives TLS as it drives any
// engine, without a goroutine per connection.
//
// # Concurrency
//
// A Conn belongs to the goroutine of its handshake, then its Engine to the shard.
package tlsconn
