//go:build race

package tlsconn

// raced says that the race detector has pools drop what is put into them.
const raced = true
