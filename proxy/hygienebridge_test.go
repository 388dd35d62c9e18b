package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// bridge is a sidecar on loopback between callers of either protocol and an app.
type bridge struct {
	t    *testing.T
	addr string
	reg  *telemetry.Registry
	app  *peer
}

func newBridge(t *testing.T, h2 bool, answers map[string]*family) *bridge {
	t.Helper()
	app := newPeer(t, h2, answers)
	b := newBridgeTo(t, h2, app.ln.Addr().String())
	b.app = app
	return b
}

func newBridgeTo(t *testing.T, h2 bool, address string) *bridge {
	t.Helper()
	scheme := "h1://"
	if h2 {
		scheme = "h2c://"
	}
	snap, err := snapshot.Compile(snapshot.Source{
		Role: "inbound", Upstreams: []string{scheme + address}, Timeout: answerTimeout, Idle: answerTimeout,
		File: &snapshot.File{TenantBreaker: &snapshot.TenantBreaker{FailureThreshold: 1<<16 - 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	reg := telemetry.NewRegistry()
	s, err := New(Options{Snapshot: snap, Registry: reg, Log: quiet(t)})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Close)
	return &bridge{t: t, addr: ln.Addr().String(), reg: reg}
}

// refusals is how many requests were refused, or given up by their caller.
func (b *bridge) refusals() (n uint64) {
	for _, id := range [...]telemetry.CounterID{telemetry.RefusedParseError, telemetry.RefusedMalformed, telemetry.RefusedUpgrade} {
		n += b.reg.Total(id)
	}
	return n + b.reg.Tenants()[quadnine.OtherTenant].Outcomes[telemetry.Canceled]
}

// broken is how many responses were.
func (b *bridge) broken() uint64 {
	return b.reg.Total(telemetry.ResponsesMalformed) + b.reg.Total(telemetry.ResponsesReset)
}

// ask1 has an HTTP/1.1 caller say s, with a pause after its head, and returns what
// it hears.
func (b *bridge) ask1(s *said, row string, pause func()) heard {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	head, rest, found := strings.Cut(strings.ReplaceAll(s.h1, "{row}", row), "\r\n\r\n")
	if found {
		head += "\r\n\r\n"
	}
	_, _ = io.WriteString(c, head)
	pause()
	_, _ = io.WriteString(c, rest)
	if s.eof {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return heard{cut, err.Error()}
	}
	defer func() { _ = resp.Body.Close() }()
	text := fmt.Sprintf("%d\n%s", resp.StatusCode, fieldLines(resp.Header))
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return heard{cut, text + string(body) + "\n" + err.Error()}
	}
	text += string(body) + "\n" + fieldLines(resp.Trailer)
	if resp.StatusCode >= 400 {
		return heard{refused, text}
	}
	return heard{passed, text}
}

// ask2 does so over HTTP/2.
func (b *bridge) ask2(s *said, row string, pause func()) heard {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	w := newWire(b.t, c)
	_, _ = io.WriteString(c, http2.ClientPreface)
	w.do(func(fr *http2.Framer) error { return fr.WriteSettings() })
	w.say(1, s, row, pause)
	var heads strings.Builder
	began, status := false, 0
	for line := range w.frames {
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case "RST_STREAM":
			if began && status < 400 {
				return heard{cut, heads.String() + line}
			}
			return heard{refused, heads.String() + line}
		case "HEADERS", "DATA":
			var id uint32
			var end bool
			_, _ = fmt.Sscanf(rest, "%d end=%v", &id, &end)
			if kind == "HEADERS" {
				for _, f := range strings.Fields(rest)[2:] {
					name, value, _ := strings.Cut(f[1:], "=")
					fmt.Fprintf(&heads, "%s%s: %s\n", f[:1], name, value)
				}
				if !began {
					_, _ = fmt.Sscanf(heads.String(), ":status: %d", &status)
				}
				began = true
			}
			if end {
				text := heads.String() + w.said(1)
				if status >= 400 {
					return heard{refused, text}
				}
				return heard{passed, text}
			}
		}
	}
	return heard{cut, heads.String() + "the connection ended"}
}

func bridgeName(down2, up2 bool) string {
	name := map[bool]string{false: "h1", true: "h2"}
	return name[down2] + " to " + name[up2]
}
