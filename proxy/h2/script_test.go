package h2_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h2"
)

// TestScripts plays testdata/script. A file begins with its role; a case begins
// with "# name" and has lines of four kinds:
//
//	> a frame from the peer          < a frame the engine must send
//	= a call by the owner or driver  ! an event the engine must raise
//
// Expectations hold for everything above them since the previous ones. Each case
// runs with whole writes and with one byte at a time. UPDATE=1 rewrites them.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var result strings.Builder
		role, cases, _ := strings.Cut(string(text), "\n")
		result.WriteString(role + "\n")
		for i, body := range strings.Split(cases, "\n# ") {
			if i == 0 {
				continue // the file's comment
			}
			name, lines, _ := strings.Cut(body, "\n")
			t.Run(filepath.Base(file)+"/"+name, func(t *testing.T) {
				var whole string
				for _, chunk := range []int{1 << 20, 1} {
					got := newScript(t, role, chunk).play(strings.Split(strings.TrimSpace(lines), "\n"))
					if whole == "" {
						whole = got
					}
					if os.Getenv("UPDATE") == "" && got != strings.TrimSpace(lines)+"\n" {
						t.Errorf("chunks of %d: got\n%s\nwant\n%s", chunk, got, lines)
					} else if got != whole {
						t.Errorf("chunks of %d differ: got\n%s\nwant\n%s", chunk, got, whole)
					}
				}
				result.WriteString("\n# " + name + "\n" + whole)
			})
		}
		if os.Getenv("UPDATE") != "" && !t.Failed() {
			if err := os.WriteFile(file, []byte(result.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

type script struct {
	t      *testing.T
	c      *h2.Conn
	rec    *recorder
	w      *wire
	chunk  int
	now    int64
	server bool
	done   bool
	faults uint64
}

// newScript returns a connection of the given role. The words after the role
// change its configuration; unless one of them is raw, SETTINGS are exchanged.
func newScript(t *testing.T, role string, chunk int) *script {
	cfg := h2.DefaultConfig()
	words := strings.Fields(role)
	raw := false
	for _, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		n := 0
		if value != "" {
			n = number(t, value)
		}
		switch name {
		case "raw":
			raw = true
		case "streams":
			cfg.MaxConcurrentStreams = uint32(n)
		case "window":
			cfg.StreamWindow = uint32(n)
		case "conn":
			cfg.ConnWindow = uint32(n)
		case "header-bytes":
			cfg.MaxHeaderBytes = uint32(n)
		case "header-fields":
			cfg.MaxHeaderFields = n
		case "output":
			cfg.OutputLimit = n
		case "resets":
			cfg.ResetBurst = int64(n)
		case "floods":
			cfg.FloodBurst = int64(n)
		case "acks":
			cfg.MaxPendingAcks = n
		case "continuations":
			cfg.MaxContinuations = n
		case "connect":
			cfg.ExtendedConnect = true
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
	s := &script{t: t, rec: newRecorder(), w: newWire(t), chunk: chunk, server: words[0] == "server"}
	if s.server {
		s.c = h2.NewServer(cfg, s.rec)
		if !raw {
			s.w.buf.WriteString(h2.Preface)
		}
	} else {
		s.c = h2.NewClient(cfg, s.rec)
		s.w.skip = len(h2.Preface)
	}
	if !raw {
		s.must(s.w.fr.WriteSettings())
		s.must(s.w.fr.WriteSettingsAck())
		s.feed()
		s.output()
		s.rec.take()
	}
	return s
}

func (s *script) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (s *script) feed() {
	p := s.w.take()
	for len(p) > 0 {
		n := min(s.chunk, len(p))
		if err := s.c.Feed(s.now, slices.Clone(p[:n])); err != nil {
			s.rec.add("error %v", err)
			return
		}
		p = p[n:]
	}
}

func (s *script) output() []string {
	p := s.c.TakeOutput(nil)
	s.c.Backlog(0)
	lines := s.w.read(p)
	for p = s.c.TakeOutput(nil); len(p) > 0; p = s.c.TakeOutput(nil) {
		lines = append(lines, s.w.read(p)...)
		s.c.Backlog(0)
	}
	return lines
}

// play runs a case and returns it with the expectations that came true.
func (s *script) play(lines []string) string {
	var b strings.Builder
	check := func() {
		s.feed()
		out := s.output()
		for _, e := range s.rec.take() {
			b.WriteString("! " + e + "\n")
		}
		if st := s.c.Stats(); st.Malformed != s.faults {
			s.faults = st.Malformed
			b.WriteString("! malformed: " + st.LastMalformed + "\n")
		}
		for _, l := range out {
			b.WriteString("< " + l + "\n")
		}
		if s.c.Closing() && !s.done {
			s.done = true
			b.WriteString("! closing\n")
		}
	}
	acted := false
	for _, line := range lines {
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case ">", "=":
			if kind == "=" {
				s.feed()
			}
			b.WriteString(line + "\n")
			if kind == ">" {
				s.frame(words(s.t, rest))
			} else {
				s.call(words(s.t, rest))
			}
			acted = true
		case "<", "!":
			if acted {
				check()
			}
			acted = false
		case "":
		default:
			s.t.Fatalf("cannot read %q", line)
		}
	}
	if acted {
		check()
	}
	return b.String()
}

// words splits at spaces; a word in quotes is a Go string.
func words(t *testing.T, s string) []string {
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
