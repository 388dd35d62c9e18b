package upstream

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/snapshot"
)

// offering serves address as an HTTP/2 server that sends these settings and answers
// every stream with 200 and its end.
func (r *rig) offering(address string, settings ...http2.Setting) {
	r.serveConns(address, func(c net.Conn) {
		defer c.Close()
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		fr := http2.NewFramer(c, c)
		_ = fr.WriteSettings(settings...)
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := f.(*http2.HeadersFrame); ok {
				_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true})
			}
		}
	})
}

var takesConnect = http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}

// upgrade opens an exchange that asks for another protocol.
func (r *rig) upgrade(caller snapshot.Protocol) *try {
	x := r.prepare("/up")
	x.want.Upgrade, x.want.Caller = true, caller
	r.do(x.open)
	return x
}

// TestUpgradeWaitsForTheOffer: over HTTP/2 an upgrade has connections of its own,
// which are used once their SETTINGS have come; other requests do not wait.
func TestUpgradeWaitsForTheOffer(t *testing.T) {
	bubbleOf(t, managed(to("a:80")...), func(r *rig) {
		r.offering("a:80", takesConnect)
		r.get("/1").ok("")
		r.upgrade(snapshot.H1).ok("")
		r.upgrade(snapshot.H2C).ok("")
		r.get("/2").ok("")
		if n := r.net.Dials("a:80"); n != 2 {
			t.Errorf("dialed %d times, want once for either kind", n)
		}
	})
}

// TestUpgradeThatIsNotOffered: the first one finds out, those after it are refused
// at once by what is known; who never says is not waited for.
func TestUpgradeThatIsNotOffered(t *testing.T) {
	bubbleOf(t, managed(to("a:80")...), func(r *rig) {
		r.offering("a:80")
		for range 3 {
			x := r.upgrade(snapshot.H2C)
			<-x.over
			if !errors.Is(x.err, ErrNoUpgrade) {
				t.Fatalf("error %v", x.err)
			}
		}
		r.get("/1").ok("")
		if n := r.net.Dials("a:80"); n != 2 {
			t.Errorf("dialed %d times, want once for either kind", n)
		}
	})
	bubbleOf(t, managed(to("a:80")...), func(r *rig) {
		r.serveConns("a:80", func(c net.Conn) { _, _ = io.Copy(io.Discard, c); _ = c.Close() })
		begin := time.Now()
		x := r.upgrade(snapshot.H2C)
		<-x.over
		if took := time.Since(begin); !errors.Is(x.err, ErrNoUpgrade) || took != time.Second {
			t.Errorf("error %v after %v, want %v after connect_timeout", x.err, took, ErrNoUpgrade)
		}
	})
}

// TestUpgradeFollowsWhatIsSpoken: an endpoint of the caller's protocol is asked in
// it; one whose protocol was found by a probe over HTTP/1.1, until it has offered
// extended CONNECT.
func TestUpgradeFollowsWhatIsSpoken(t *testing.T) {
	for name, tc := range map[string]struct {
		forced, learned, caller snapshot.Protocol
		offers, h2              bool
	}{
		"HTTP/1.1":                         {snapshot.H1, snapshot.Auto, snapshot.H2C, true, false},
		"HTTP/2":                           {snapshot.H2C, snapshot.Auto, snapshot.H1, false, true},
		"the caller's, HTTP/1.1":           {snapshot.Downstream, snapshot.Auto, snapshot.H1, true, false},
		"the caller's, HTTP/2":             {snapshot.Downstream, snapshot.Auto, snapshot.H2C, false, true},
		"unknown":                          {snapshot.Auto, snapshot.Auto, snapshot.H2C, false, false},
		"found HTTP/1.1":                   {snapshot.Auto, snapshot.H1, snapshot.H2C, true, false},
		"found HTTP/2 that offers nothing": {snapshot.Auto, snapshot.H2C, snapshot.H2C, false, false},
		"found HTTP/2 that offers it":      {snapshot.Auto, snapshot.H2C, snapshot.H1, true, true},
	} {
		e := &Endpoint{forced: tc.forced}
		e.learn(tc.learned)
		e.extends.Store(tc.offers)
		if got := e.takesExtendedConnect(tc.caller); got != tc.h2 {
			t.Errorf("%s: over HTTP/2 %v", name, got)
		}
	}
}

// TestUpgradeAfterARestart: a connection that is lost is dialed anew, and its
// SETTINGS count.
func TestUpgradeAfterARestart(t *testing.T) {
	bubbleOf(t, managed(to("a:80")...), func(r *rig) {
		l := r.serve("a:80", hello)
		x := r.upgrade(snapshot.H2C)
		<-x.over
		if !errors.Is(x.err, ErrNoUpgrade) {
			t.Fatalf("error %v", x.err)
		}
		l.Kill()
		synctest.Wait()
		r.offering("a:80", takesConnect)
		r.upgrade(snapshot.H2C).ok("")
	})
}
