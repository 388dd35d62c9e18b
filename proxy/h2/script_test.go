package h2_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

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
	t.Helper()
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
		case "empties":
			cfg.MaxEmptyFrames = n
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
