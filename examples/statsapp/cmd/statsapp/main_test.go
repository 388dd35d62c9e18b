package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/examples/statsapp"
)

// start runs the command and returns where it listens, as its log says.
func start(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, args, pw)
		pw.Close()
		done <- err
	}()
	line := make([]byte, 1024)
	n, err := pr.Read(line)
	if err != nil {
		t.Fatalf("no address: %v, %v", err, <-done)
	}
	rest := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(pr) // ends with the pipe
		rest <- string(b)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if s := <-rest; !strings.Contains(s, "msg=stopped") {
			t.Errorf("last words %q", s)
		}
	})
	m := regexp.MustCompile(`msg=listening addr=(\S+)`).FindSubmatch(line[:n])
	if m == nil {
		t.Fatalf("first line %q", line[:n])
	}
	return string(m[1])
}

// readme returns the commands of README.md, split as a shell would.
func readme(t *testing.T) (commands [][]string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	word := regexp.MustCompile(`'([^']*)'|\S+`)
	for line := range strings.Lines(string(text)) {
		line, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
		if !ok {
			continue
		}
		var words []string
		for _, m := range word.FindAllStringSubmatch(line, -1) {
			words = append(words, strings.Trim(m[0], "'"))
		}
		commands = append(commands, words)
	}
	return commands
}

// The README's commands, run against the command as the README starts it. What
// they must answer stands here in their order.
func TestReadmeCommands(t *testing.T) {
	want := []struct {
		status int
		says   string
	}{
		{200, `"exact":true,"method":"roaring"`},
		{200, `"exact":false,"method":"hyperloglog"`},
		{200, `"rows":[{"from":"2026-01-01T00:00:00Z","to":"2026-01-01T06:00:00Z","value":`},
		{200, `"steps":[{"event":"view"`},
		{200, `{"accepted":1,"rejected":0}`},
		{400, `"reason":"/: missing properties`},
		{200, `"kind":"error","status":503`},
		{503, `fault error is switched on for tenant acme`},
		{200, `{"kind":"none"}`},
		{200, `"metric":"orders"`},
	}
	commands := readme(t)
	if len(commands) != 1+len(want) {
		t.Fatalf("README has %d commands, this test knows %d", len(commands), 1+len(want))
	}
	const addr = "127.0.0.1:8080"
	args := slices.Clone(commands[0][3:])
	args[slices.Index(args, addr)] = "127.0.0.1:0"
	live := start(t, args...)
	for i, command := range commands[1:] {
		line := strings.Join(command, " ")
		status, body := curl(t, command, addr, live)
		if status != want[i].status || !strings.Contains(body, want[i].says) {
			t.Errorf("%s\n got %d %s\nwant %d %s", line, status, body, want[i].status, want[i].says)
		}
	}
}

// curl does what curl would with the few options that the README uses.
func curl(t *testing.T, command []string, addr, live string) (int, string) {
	t.Helper()
	method, body, target, header := http.MethodGet, "", "", http.Header{}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	for i := 1; i < len(command); i++ {
		switch command[i] {
		case "-s":
		case "--http2-prior-knowledge":
			protocols = new(http.Protocols)
			protocols.SetUnencryptedHTTP2(true)
		case "-X":
			i++
			method = command[i]
		case "-d", "--data-binary":
			i++
			body = command[i]
			if method == http.MethodGet {
				method = http.MethodPost
			}
		case "-H":
			i++
			name, value, _ := strings.Cut(command[i], ": ")
			header.Set(name, value)
		default:
			target = "http://" + strings.Replace(command[i], addr, live, 1)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	tr := &http.Transport{Protocols: protocols}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	return resp.StatusCode, string(b)
}

func TestFlags(t *testing.T) {
	c, err := parse([]string{"--fault", "a=error,status=502,percent=30", "--fault=b=delay,delay_ms=5", "--protocol", "h2c"}, io.Discard)
	want := map[string]statsapp.Fault{
		"a": {Kind: statsapp.Error, Status: 502, Percent: 30},
		"b": {Kind: statsapp.Delay, DelayMS: 5},
	}
	if err != nil || !maps.Equal(c.faults, want) || c.protocol != "h2c" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := parse([]string{"--help"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}

// Each wrong start ends at once with one line that names what is wrong.
func TestWrongStarts(t *testing.T) {
	taken := start(t, "--listen", "127.0.0.1:0")
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"--listen", taken}, "--listen " + taken},
		{[]string{"--protocol", "h3"}, `protocol "h3" is unknown`},
		{[]string{"--fault", "acme"}, "want tenant=kind"},
		{[]string{"--fault", "acme=error,often=1"}, `"often=1"`},
		{[]string{"--fault", "acme=explode"}, "--fault acme: kind"},
		{[]string{"--seed-tenants", "a b"}, `tenant "a b"`},
		{[]string{"surplus"}, `"surplus"`},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := run(ctx, append([]string{"--listen", "127.0.0.1:0"}, tc.args...), io.Discard)
		cancel()
		if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v; want %s", tc.args, err, tc.says)
		}
	}
}
