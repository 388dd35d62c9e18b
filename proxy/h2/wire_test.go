package h2_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wire is the far end of a connection, made of x/net's Framer and hpack: the
// oracle for what the engine sends.
type wire struct {
	t    *testing.T
	buf  bytes.Buffer // frames for the engine
	fr   *http2.Framer
	enc  *hpack.Encoder
	blk  bytes.Buffer
	in   bytes.Buffer // frames from the engine
	rd   *http2.Framer
	body map[uint32]*bytes.Buffer
	skip int // bytes of the engine's preface
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{t: t, body: map[uint32]*bytes.Buffer{}}
	w.fr = http2.NewFramer(&w.buf, nil)
	w.fr.AllowIllegalWrites = true
	w.enc = hpack.NewEncoder(&w.blk)
	w.rd = http2.NewFramer(nil, &w.in)
	w.rd.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.rd.MaxHeaderListSize = 1 << 24
	w.rd.SetMaxReadFrameSize(16384) // the engine must not send more
	return w
}

// block encodes fields written name=value.
func (w *wire) block(fields []string) []byte {
	w.blk.Reset()
	for _, f := range fields {
		i := strings.IndexByte(f[1:], '=') + 1
		if i <= 0 {
			w.t.Fatalf("field %q has no =", f)
		}
		if err := w.enc.WriteField(hpack.HeaderField{Name: f[:i], Value: f[i+1:]}); err != nil {
			w.t.Fatal(err)
		}
	}
	return bytes.Clone(w.blk.Bytes())
}

// take returns what was written for the engine.
func (w *wire) take() []byte {
	p := bytes.Clone(w.buf.Bytes())
	w.buf.Reset()
	return p
}

// read renders the engine's output, one line a frame; DATA frames in a row that
// belong to one stream are one line.
func (w *wire) read(p []byte) []string {
	w.t.Helper()
	n := min(w.skip, len(p))
	w.skip -= n
	w.in.Write(p[n:])
	var lines []string
	var id uint32
	size := 0
	flush := func(end bool) {
		if size > 0 || end {
			line := fmt.Sprintf("DATA %d %d", id, size)
			if end {
				line += " end"
			}
			lines = append(lines, line)
			size = 0
		}
	}
	for w.in.Len() > 0 {
		f, err := w.rd.ReadFrame()
		if err != nil {
			w.t.Fatalf("the engine's output is not valid: %v", err)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			if size > 0 && d.StreamID != id {
				flush(false)
			}
			id = d.StreamID
			size += len(d.Data())
			b := w.body[id]
			if b == nil {
				b = new(bytes.Buffer)
				w.body[id] = b
			}
			b.Write(d.Data())
			if d.StreamEnded() {
				flush(true)
			}
			continue
		}
		flush(false)
		lines = append(lines, render(f))
	}
	flush(false)
	return lines
}

func render(f http2.Frame) string {
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		var line strings.Builder
		fmt.Fprintf(&line, "HEADERS %d", id)
		for _, h := range f.Fields {
			v := h.Value
			if len(v) > 40 {
				v = fmt.Sprintf("(%d bytes)", len(v))
			}
			line.WriteString(" " + h.Name + "=" + v)
			if h.Sensitive {
				line.WriteString("(sensitive)")
			}
		}
		if f.StreamEnded() {
			line.WriteString(" end")
		}
		return line.String()
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("RST_STREAM %d %v", id, f.ErrCode)
	case *http2.GoAwayFrame:
		return strings.TrimSuffix(fmt.Sprintf("GOAWAY %d %v: %s", f.LastStreamID, f.ErrCode, f.DebugData()), ": ")
	case *http2.WindowUpdateFrame:
		return fmt.Sprintf("WINDOW_UPDATE %d %d", id, f.Increment)
	case *http2.PingFrame:
		if f.IsAck() {
			return fmt.Sprintf("PING ack %x", f.Data)
		}
		return fmt.Sprintf("PING %x", f.Data)
	case *http2.SettingsFrame:
		if f.IsAck() {
			return "SETTINGS ack"
		}
		line := "SETTINGS"
		_ = f.ForeachSetting(func(s http2.Setting) error {
			line += fmt.Sprintf(" %v=%d", s.ID, s.Val)
			return nil
		})
		return line
	}
	return fmt.Sprint(f)
}
