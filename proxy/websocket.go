package proxy

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 section 1.3 has it; nothing secret rests on it
	"encoding/base64"
	"slices"
	"strings"
)

// Over HTTP/1.1 a websocket's handshake proves that the server has read it: it hashes
// the caller's key. Over HTTP/2 :protocol says as much, and there is neither (RFC 8441
// section 5). Whoever bridges the two has to ask and to answer for the other side.
const (
	keyField    = "sec-websocket-key"
	acceptField = "sec-websocket-accept"
	acceptGUID  = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 section 1.3
)

func (x *Exchange) isWebsocket() bool { return strings.EqualFold(x.upgrade, "websocket") }

// newKey returns a sec-websocket-key (RFC 6455 section 4.1).
func newKey() []byte {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails: see its documentation
	return base64.StdEncoding.AppendEncode(nil, nonce[:])
}

// acceptOf returns the sec-websocket-accept that answers key (RFC 6455 section 4.2.2).
func acceptOf(key []byte) []byte {
	sum := sha1.Sum(append(slices.Clip(key), acceptGUID...)) //nolint:gosec // as above
	return base64.StdEncoding.AppendEncode(nil, sum[:])
}
