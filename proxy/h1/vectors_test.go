package h1

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A vector file holds blocks
//
//	== name [method]
//	# verdict: why, with the section of the RFC that says so
//	bytes as in a Go string, lines joined; repeat(N, "text") stands for N times text
//	----
//	the events, then the connection's state
//
// The verdict is accept, accept and close (the connection), wait (for more), or
// refuse and the status. UPDATE=1 rewrites verdicts and events.
type vector struct{ name, method, verdict, why, raw, want string }

func readVectors(t testing.TB, file string) (vs []vector) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for block := range strings.SplitSeq(string(data), "== ") {
		head, rest, _ := strings.Cut(block, "\n")
		if strings.TrimSpace(head) == "" || strings.HasPrefix(head, "#") {
			continue
		}
		raw, want, ok := strings.Cut(rest, "----\n")
		if !ok {
			t.Fatalf("%s: block %q has no ----", file, head)
		}
		name, method, _ := strings.Cut(head, " ")
		note, raw, _ := strings.Cut(raw, "\n")
		verdict, why, ok := strings.Cut(strings.TrimPrefix(note, "# "), ": ")
		if !ok || why == "" || !strings.HasPrefix(note, "# ") {
			t.Fatalf("%s: block %q does not say why", file, head)
		}
		vs = append(vs, vector{name, method, verdict, why, raw, strings.TrimRight(want, "\n")})
	}
	return vs
}

func (v vector) bytes(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	for line := range strings.SplitSeq(strings.TrimRight(v.raw, "\n"), "\n") {
		n, text := 1, line
		if rest, ok := strings.CutPrefix(line, "repeat("); ok {
			count, arg, _ := strings.Cut(strings.TrimSuffix(rest, ")"), ", ")
			n, _ = strconv.Atoi(count)
			text = strings.Trim(arg, `"`)
		}
		s, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
		if err != nil {
			t.Fatalf("%s: line %q: %v", v.name, line, err)
		}
		b.WriteString(strings.Repeat(s, n))
	}
	return b.Bytes()
}

var answered = regexp.MustCompile(`(?m)^answer HTTP/1\.1 (\d{3})`)

// verdictOf sums events up.
func verdictOf(events string) string {
	line := func(prefix string) bool { return strings.Contains("\n"+events, "\n"+prefix) }
	status := answered.FindStringSubmatch(events)
	switch {
	case status != nil:
		return "refuse " + status[1]
	case line("error "), line("reset "):
		return "refuse"
	case line("too-large "):
		return "refuse 431"
	case !line("head "):
		return "wait"
	case strings.Contains(events, "closing=true"):
		return "accept and close"
	}
	return "accept"
}

func endState(c *Conn, err error) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "error %v\n", err)
	}
	fmt.Fprintf(&b, "closing=%v aborted=%v", c.Closing(), c.Aborted())
	return b.String()
}

// feedAll feeds raw in pieces of n bytes.
func feedAll(c *Conn, raw []byte, n int) (err error) {
	for len(raw) > 0 && err == nil {
		k := min(n, len(raw))
		err = c.Feed(0, raw[:k:k])
		raw = raw[k:]
	}
	return err
}

var statusLine = regexp.MustCompile(`HTTP/1\.1 [1-5]\d\d [A-Z]`)

func serverEvents(raw []byte, n int) string {
	c, r := newServer(Config{})
	err := feedAll(c, raw, n)
	got := r.text()
	out := string(c.TakeOutput(nil))
	if at := statusLine.FindAllStringIndex(out, -1); err != nil && len(at) > 0 {
		line, rest, _ := strings.Cut(out[at[len(at)-1][0]:], "\r\n")
		_, text, _ := strings.Cut(rest, "\r\n\r\n")
		got += fmt.Sprintf("\nanswer %s: %q", line, text)
	}
	return strings.TrimPrefix(got+"\n"+endState(c, err), "\n")
}

func clientEvents(t *testing.T, v vector, raw []byte, n int) string {
	t.Helper()
	method, eof := strings.CutSuffix(v.method, " EOF")
	c, r, _ := newClient(t, Config{}, method)
	err := feedAll(c, raw, n)
	if eof {
		c.FeedEOF()
	}
	return strings.TrimPrefix(r.text()+"\n"+endState(c, err), "\n")
}

func TestVectors(t *testing.T) {
	for _, file := range []string{"testdata/requests.txt", "testdata/responses.txt"} {
		var rewritten strings.Builder
		for _, v := range readVectors(t, file) {
			t.Run(v.name, func(t *testing.T) {
				raw := v.bytes(t)
				events := func(n int) string {
					if v.method == "" {
						return serverEvents(raw, n)
					}
					return clientEvents(t, v, raw, n)
				}
				got := events(len(raw))
				for _, n := range []int{1, 2, 3, 7} {
					if piecewise := events(n); piecewise != got {
						t.Errorf("in pieces of %d:\n%s\nat once:\n%s", n, piecewise, got)
					}
				}
				verdict := verdictOf(got)
				fmt.Fprintf(&rewritten, "== %s\n# %s: %s\n%s----\n%s\n\n", strings.TrimSpace(v.name+" "+v.method), verdict, v.why, v.raw, got)
				if (got != v.want || verdict != v.verdict) && os.Getenv("UPDATE") == "" {
					t.Errorf("got %s:\n%s\nwant %s:\n%s", verdict, got, v.verdict, v.want)
				}
			})
		}
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(file, []byte(rewritten.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
