package tlsconn

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
)

// TestTurns: who waits for its peer holds nobody up, and who has no turn waits.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := configs(t, tls.VersionTLS13)
		turns := NewTurns(1)
		near, silent := net.Pipe()
		half := make(chan error, 1)
		go func() { half <- Server(near, nil, server, turns).Handshake() }()
		synctest.Wait()

		begin := func() (served chan error) {
			near, far := net.Pipe()
			served = make(chan error, 1)
			go func() { served <- Server(near, nil, server, turns).Handshake() }()
			go func() { _ = Client(far, client).Handshake() }()
			synctest.Wait()
			return served
		}
		select {
		case err := <-begin():
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("a handshake waits for one whose caller says nothing")
		}

		turns.take()
		served := begin()
		select {
		case err := <-served:
			t.Errorf("a handshake without a turn: %v", err)
		default:
		}
		turns.give()
		if err := <-served; err != nil {
			t.Error(err)
		}
		_ = silent.Close()
		if err := <-half; err == nil {
			t.Error("a handshake without a caller succeeded")
		}
		if len(turns) != 0 {
			t.Errorf("%d turns are not given back", len(turns))
		}
	})
}
