package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/examples/statsapp"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
)

var consoleBlock = regexp.MustCompile("(?s)```console\n(.*?)```")

// command is one "$ " line of a page and the lines shown below it.
type command struct {
	line  string
	shown []string
}

func commandsOf(t *testing.T, page string) []command {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var out []command
	for _, block := range consoleBlock.FindAllStringSubmatch(string(b), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimRight(line, "\n")
			if c, ok := strings.CutPrefix(line, "$ "); ok {
				out = append(out, command{line: c})
			} else if n := len(out); n > 0 {
				out[n-1].shown = append(out[n-1].shown, line)
			}
		}
	}
	return out
}

// TestREADME runs every command of the page, with free ports in place of the
// fixed ones, and looks for each shown line in what is printed.
func TestREADME(t *testing.T) {
	commands := commandsOf(t, "../../README.md")
	if len(commands) < 10 {
		t.Fatalf("found %d commands", len(commands))
	}
	ports := freeAddrs(t, 3)
	moved := strings.NewReplacer("127.0.0.1:9090", ports[0], "127.0.0.1:8080", ports[1], "127.0.0.1:9901", ports[2])
	for _, c := range commands {
		t.Log(c.line)
		words := shellWords(t, moved.Replace(c.line))
		var got string
		switch {
		case slices.Equal(words, []string{"make", "test"}):
			mk, err := os.ReadFile("../../Makefile")
			if err != nil || !strings.Contains(string(mk), "\ntest:") {
				t.Errorf("make test: no such target (%v)", err)
			}
			continue
		case words[0] == "go" && words[2] == "./cmd/quadnine" && words[3] == "demo":
			checkDemoShape(t, c.shown)
			continue
		case words[0] == "go" && words[2] == "./cmd/quadnine":
			runInBackground(t, append(words[3:], "--admin", ports[2]))
			continue
		case words[0] == "go" && strings.Contains(words[2], "statsapp"):
			startREADMEApp(t, words[3:])
			continue
		case words[0] == "curl":
			got = curl(t, words[1:])
		default:
			t.Fatalf("the test does not know how to run %q", c.line)
		}
		for _, want := range c.shown {
			if !strings.Contains(got, moved.Replace(want)) {
				t.Errorf("$ %s\nprinted\n%s\nwithout %q", c.line, got, want)
			}
		}
	}
}

// checkDemoShape compares the shown output with a real run, figures apart.
func checkDemoShape(t *testing.T, shown []string) {
	t.Helper()
	var out bytes.Buffer
	d := newDemoRun(&out)
	d.countsOnly = true
	if err := d.run(t.Context(), false); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	figures := regexp.MustCompile(`[0-9][0-9.,:]*`)
	shape := func(s string) string { return figures.ReplaceAllString(s, "#") }
	got := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if len(got) != len(shown) {
		t.Fatalf("the demo prints %d lines, README shows %d:\n%s", len(got), len(shown), out.String())
	}
	for i := range got {
		if shape(got[i]) != shape(shown[i]) {
			t.Errorf("the demo prints\n%s\nREADME shows\n%s", got[i], shown[i])
		}
	}
}

func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	out := make([]string, n)
	open := make([]net.Listener, n) // all at once, so that no address comes twice
	for i := range out {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		out[i], open[i] = ln.Addr().String(), ln
	}
	for _, ln := range open {
		_ = ln.Close()
	}
	return out
}

func startREADMEApp(t *testing.T, args []string) {
	t.Helper()
	var listen string
	var tenants []string
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "--listen":
			listen = args[i+1]
		case "--seed-tenants":
			tenants = strings.Split(args[i+1], ",")
		default:
			t.Fatalf("unknown flag %s", args[i])
		}
	}
	app, err := statsapp.New(statsapp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Seed(1, tenants, 10_000); err != nil { // the command's default
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = app.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = app.Close()
		<-done
	})
}

// runInBackground runs a quadnine command until the test ends, and returns when
// it is ready.
func runInBackground(t *testing.T, args []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready := &readyWriter{ready: make(chan struct{})}
	code := make(chan int, 1)
	go func() { code <- execute(ctx, args, io.Discard, ready) }()
	t.Cleanup(func() {
		cancel()
		if c := <-code; c != exitOK {
			t.Errorf("quadnine %v: exit %d\n%s", args, c, ready.text.String())
		}
	})
	select {
	case <-ready.ready:
	case c := <-code:
		code <- c
		t.Fatalf("quadnine %v ended", args)
	}
}

// readyWriter sees the log line that says that the sidecar is ready.
type readyWriter struct {
	text  bytes.Buffer
	ready chan struct{}
	seen  bool
}

func (w *readyWriter) Write(p []byte) (int, error) {
	w.text.Write(p)
	if !w.seen && bytes.Contains(p, []byte("msg=ready")) {
		w.seen = true
		close(w.ready)
	}
	return len(p), nil
}

// curl does what the page's curl commands do.
func curl(t *testing.T, args []string) string {
	t.Helper()
	method, url := http.MethodGet, ""
	var body io.Reader
	head, h2 := false, false
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-s":
		case "-si":
			head = true
		case "--http2-prior-knowledge":
			h2 = true
		case "-X":
			i++
			method = args[i]
		case "-d":
			i++
			body = strings.NewReader(args[i])
			if method == http.MethodGet {
				method = http.MethodPost
			}
		default:
			url = args[i]
		}
	}
	s := &stand{t: t}
	a := s.do(s.client(h2), method, "http://"+url, body)
	if !head {
		return a.body
	}
	version := "HTTP/1.1"
	if h2 {
		version = "HTTP/2"
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s %d\n", version, a.status)
	for name, values := range a.header {
		fmt.Fprintf(&out, "%s: %s\n", strings.ToLower(name), strings.Join(values, ", "))
	}
	return out.String() + "\n" + a.body
}

// shellWords splits a line as a shell does, as far as the page needs it.
func shellWords(t *testing.T, line string) []string {
	t.Helper()
	var out []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		var w string
		if rest, ok := strings.CutPrefix(line, "'"); ok {
			w, line, ok = strings.Cut(rest, "'")
			if !ok {
				t.Fatalf("open quote in %q", line)
			}
		} else {
			w, line, _ = strings.Cut(line, " ")
		}
		out = append(out, w)
	}
	return out
}

// TestConfigPage holds the page's example to what it says: these are the
// defaults, and every field is there.
func TestConfigPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatal("no example")
	}
	f, err := snapshot.Parse("docs/config.md", m[1])
	if err != nil {
		t.Fatal(err)
	}
	src := snapshot.Source{Role: "inbound", Upstreams: []string{"http://127.0.0.1:1"}, Timeout: 1, Idle: 1, Degrade: []string{"/api"}, File: f}
	snap, err := snapshot.Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%+v %+v", snap.Listeners[0].Breaker.Config, snap.Listeners[0].Keys), fmt.Sprintf("%+v %+v", policy.DefaultBreakerConfig(), snapshot.DefaultKeys()); got != want {
		t.Errorf("the example is not the defaults:\n%s\n%s", got, want)
	}
	if got, want := fmt.Sprintf("%+v", snap.Listeners[0].Inline.Hosts[0].Routes[0].Cache.Config), fmt.Sprintf("%+v", policy.DefaultCacheConfig()); got != want {
		t.Errorf("the example is not the defaults:\n%s\n%s", got, want)
	}
}
