//go:build !race

package tlsconn

const raced = false
