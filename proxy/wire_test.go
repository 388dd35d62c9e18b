package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wire is one end of an HTTP/2 connection, frame by frame: for what Go's own
// client and server never do.
type wire struct {
	t      *testing.T
	nc     net.Conn
	fr     *http2.Framer
	frames chan string // a line for each frame received; closed with the connection

	mu  sync.Mutex
	got map[uint32][]byte // what came on each stream
}

// said returns what has come on a stream.
func (w *wire) said(id uint32) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.got[id])
}

// hears waits until a stream has brought as much as want.
func (w *wire) hears(id uint32, want string) {
	w.t.Helper()
	for len(w.said(id)) < len(want) {
		w.until("DATA " + strconv.Itoa(int(id)) + " ")
	}
	if got := w.said(id); got != want {
		w.t.Errorf("stream %d brought %d bytes %.40q, want %d, %.40q", id, len(got), got, len(want), want)
	}
}

// newWire reads nc in the background, answering nothing.
func newWire(t *testing.T, nc net.Conn) *wire {
	t.Helper()
	w := &wire{t: t, nc: nc, fr: http2.NewFramer(nc, nc), frames: make(chan string, 1<<16), got: make(map[uint32][]byte)}
	w.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	go func() {
		defer close(w.frames)
		for {
			f, err := w.fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				line := []string{fmt.Sprintf("HEADERS %d end=%v", f.StreamID, f.StreamEnded())}
				for _, h := range f.Fields {
					line = append(line, h.Name+"="+h.Value)
				}
				w.frames <- strings.Join(line, " ")
			case *http2.DataFrame:
				w.mu.Lock()
				w.got[f.StreamID] = append(w.got[f.StreamID], f.Data()...)
				w.mu.Unlock()
				w.frames <- fmt.Sprintf("DATA %d end=%v %d", f.StreamID, f.StreamEnded(), len(f.Data()))
			case *http2.RSTStreamFrame:
				w.frames <- fmt.Sprintf("RST_STREAM %d %v", f.StreamID, f.ErrCode)
			case *http2.GoAwayFrame:
				w.frames <- fmt.Sprintf("GOAWAY %d %v", f.LastStreamID, f.ErrCode)
			}
		}
	}()
	t.Cleanup(func() { _ = nc.Close() })
	return w
}

// do writes frames; a connection that the other side closed takes none.
func (w *wire) do(write func(fr *http2.Framer) error) {
	_ = write(w.fr)
}

func (w *wire) headers(id uint32, end bool, fields ...string) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	w.do(func(fr *http2.Framer) error {
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: end})
	})
}

// until returns the first frame whose line begins with prefix.
func (w *wire) until(prefix string) string {
	w.t.Helper()
	for line := range w.frames {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	w.t.Fatalf("the connection ended before %q", prefix)
	return ""
}

// caller connects to the sidecar as an HTTP/2 client with these settings.
func (r *rig) caller(settings ...http2.Setting) *wire {
	r.t.Helper()
	nc, err := r.net.Dial(r.t.Context(), "sidecar:80")
	if err != nil {
		r.t.Fatal(err)
	}
	w := newWire(r.t, nc)
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		r.t.Fatal(err)
	}
	w.do(func(fr *http2.Framer) error { return fr.WriteSettings(settings...) })
	w.do(func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
	return w
}

// ask sends a request's head on w.
func (w *wire) ask(id uint32, end bool, method, path string, fields ...string) {
	w.headers(id, end, append([]string{":method", method, ":scheme", "http", ":authority", "sidecar", ":path", path}, fields...)...)
}

// frameApp is an upstream of which the test writes every frame.
func (r *rig) frameApp(address string, serve func(w *wire), settings ...http2.Setting) {
	l := r.net.Listen(address)
	r.t.Cleanup(l.Kill)
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				w := newWire(r.t, nc)
				w.do(func(fr *http2.Framer) error { return fr.WriteSettings(settings...) })
				w.do(func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
				serve(w)
			}()
		}
	}()
}

// try is get for a request that may fail altogether, within d of fake time.
func (r *rig) try(d time.Duration, req *http.Request) (reply, error) {
	ctx, cancel := context.WithTimeout(req.Context(), d)
	defer cancel()
	resp, err := r.client.Do(req.WithContext(ctx))
	if err != nil {
		return reply{}, err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return reply{resp, string(b), err}, nil
}

func (r *rig) failures(tenant string) int {
	return r.server.Explain(keyOf(tenant, "")).Breaker.Failures
}
