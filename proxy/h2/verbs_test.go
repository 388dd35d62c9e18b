package h2_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h2"
)

// words splits at spaces; a word in quotes is a Go string.
func words(t *testing.T, s string) []string {
	t.Helper()
	var list []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if s[0] == '"' {
			q, err := strconv.QuotedPrefix(s)
			if err != nil {
				t.Fatal(err)
			}
			s = s[len(q):]
			u, _ := strconv.Unquote(q)
			list = append(list, u)
			continue
		}
		w, rest, _ := strings.Cut(s, " ")
		list, s = append(list, w), rest
	}
	return list
}

var shorthands = map[string][]string{
	"GET":  {":method=GET", ":scheme=http", ":authority=a.test", ":path=/"},
	"HEAD": {":method=HEAD", ":scheme=http", ":authority=a.test", ":path=/"},
	"POST": {":method=POST", ":scheme=http", ":authority=a.test", ":path=/"},
	"200":  {":status=200"},
}

// options takes the words that are not fields off the front.
func (s *script) options(args []string) (opts map[string]int, fields []string) {
	opts = map[string]int{}
	for _, a := range args {
		name, value, has := strings.Cut(a, "=")
		switch {
		case shorthands[a] != nil:
			fields = append(fields, shorthands[a]...)
		case slices.Contains([]string{"end", "more", "ack", "final"}, a):
			opts[a] = 1
		case has && slices.Contains([]string{"pad", "dep", "big", "many"}, name):
			opts[name] = number(s.t, value)
		default:
			fields = append(fields, a)
		}
	}
	if n := opts["big"]; n > 0 {
		fields = append(fields, "x-big="+strings.Repeat("b", n))
	}
	for i := range opts["many"] {
		fields = append(fields, fmt.Sprintf("x-%d=v", i))
	}
	return opts, fields
}

var codes = func() map[string]uint32 {
	m := map[string]uint32{}
	for c := range uint32(14) {
		m[h2.ErrCode(c).String()] = c
	}
	return m
}()

// frame writes the frame that a ">" line describes.
func (s *script) frame(a []string) {
	s.t.Helper()
	opts, rest := s.options(a[1:])
	id, num := uint32(0), func(i int) uint32 { return uint32(number(s.t, rest[i])) }
	if len(rest) > 0 && a[0] != "RAW" && a[0] != "TEXT" && a[0] != "SETTINGS" && a[0] != "TIMES" {
		id = num(0)
	}
	switch a[0] {
	case "HEADERS":
		p := http2.HeadersFrameParam{
			StreamID: id, BlockFragment: s.w.block(rest[1:]), EndHeaders: opts["more"] == 0,
			EndStream: opts["end"] == 1, PadLength: uint8(opts["pad"]),
		}
		if d := opts["dep"]; d != 0 {
			p.Priority = http2.PriorityParam{StreamDep: uint32(d), Weight: 1}
		}
		var tail []byte // what does not fit goes into CONTINUATION
		if len(p.BlockFragment) > 16384 {
			p.BlockFragment, tail = p.BlockFragment[:16384], p.BlockFragment[16384:]
			p.EndHeaders = false
		}
		s.must(s.w.fr.WriteHeaders(p))
		for len(tail) > 0 {
			n := min(len(tail), 16384)
			s.must(s.w.fr.WriteContinuation(id, n == len(tail), tail[:n]))
			tail = tail[n:]
		}
	case "CONTINUATION":
		s.must(s.w.fr.WriteContinuation(id, opts["more"] == 0, s.w.block(rest[1:])))
	case "DATA":
		data := make([]byte, num(1))
		if n, padded := opts["pad"]; padded {
			s.must(s.w.fr.WriteDataPadded(id, opts["end"] == 1, data, make([]byte, n)))
		} else {
			s.must(s.w.fr.WriteData(id, opts["end"] == 1, data))
		}
	case "RST_STREAM":
		s.must(s.w.fr.WriteRSTStream(id, http2.ErrCode(codes[rest[1]])))
	case "GOAWAY":
		s.must(s.w.fr.WriteGoAway(id, http2.ErrCode(codes[rest[1]]), nil))
	case "WINDOW_UPDATE":
		s.must(s.w.fr.WriteWindowUpdate(id, num(1)))
	case "PRIORITY":
		s.must(s.w.fr.WritePriority(id, http2.PriorityParam{StreamDep: num(1)}))
	case "PING":
		s.must(s.w.fr.WritePing(opts["ack"] == 1, [8]byte{7: 9}))
	case "SETTINGS":
		if opts["ack"] == 1 {
			s.must(s.w.fr.WriteSettingsAck())
			return
		}
		var list []http2.Setting
		for _, r := range rest {
			k, v, _ := strings.Cut(r, "=")
			list = append(list, http2.Setting{ID: http2.SettingID(number(s.t, k)), Val: uint32(number(s.t, v))})
		}
		s.must(s.w.fr.WriteSettings(list...))
	case "RAW": // hexadecimal, a whole frame or a part of one
		p, err := hex.DecodeString(strings.Join(rest, ""))
		s.must(err)
		s.w.buf.Write(p)
	case "TEXT":
		s.w.buf.WriteString(strings.Join(rest, " "))
	case "TIMES":
		for range num(0) {
			s.frame(a[2:])
		}
	case "REQUESTS": // REQUESTS first count: requests that are reset at once
		for i := range num(1) {
			s.frame([]string{"HEADERS", strconv.Itoa(int(id + 2*i)), "GET", "end"})
			s.frame([]string{"RST_STREAM", strconv.Itoa(int(id + 2*i)), "CANCEL"})
		}
	default:
		s.t.Fatalf("unknown frame %q", a[0])
	}
}

// call does what an "=" line says.
func (s *script) call(a []string) {
	s.t.Helper()
	opts, rest := s.options(a[1:])
	num := func(i int) int { return number(s.t, rest[i]) }
	var st *h2.Stream
	if len(rest) > 0 {
		if n, err := strconv.Atoi(rest[0]); err == nil {
			st = s.rec.streams[uint32(n)]
		}
	}
	var l field.List
	for _, f := range rest {
		if i := strings.IndexByte(f[1:], '=') + 1; i > 0 {
			l.Add(f[:i], f[i+1:])
		}
	}
	if st == nil && slices.Contains([]string{"head", "data", "trailers", "reset", "release", "consume"}, a[0]) {
		s.t.Fatalf("= %v: no such stream", a)
	}
	switch a[0] {
	case "head":
		st.WriteHead(&l, opts["end"] == 1)
	case "data":
		n := st.WriteData(make([]byte, num(1)), opts["end"] == 1)
		s.rec.add("wrote %d, %d buffered", n, st.Buffered())
	case "trailers":
		st.WriteTrailers(&l)
	case "reset":
		st.Reset(codes[rest[1]])
	case "release":
		delete(s.rec.streams, uint32(num(0)))
		st.Release()
	case "consume":
		st.Consume(num(1))
	case "shutdown":
		s.c.Shutdown(opts["final"] == 1)
	case "eof":
		s.c.FeedEOF()
	case "wait": // milliseconds
		s.now += int64(num(0)) * 1e6
	case "ping":
		s.c.Ping()
	case "open": // client: open and write the head at once
		st, err := s.c.OpenStream(nil)
		if err != nil {
			s.rec.add("%v", err)
			return
		}
		st.WriteHead(&l, opts["end"] == 1)
		s.rec.streams[st.ID()] = st
	case "reserve": // client: open only
		st, err := s.c.OpenStream(nil)
		if err != nil {
			s.rec.add("%v", err)
			return
		}
		s.rec.streams[st.ID()] = st
	case "active":
		s.rec.add("active %d, can open %v, reading %v", s.c.Active(), s.c.CanOpen(), s.c.Reading())
	default:
		s.t.Fatalf("unknown call %q", a[0])
	}
}
