package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestControlPage runs what docs/control.md shows: its directory, its server, and
// a sidecar with its bootstrap.
func TestControlPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/control.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of YAML, want the resources and the bootstrap", len(blocks))
	}
	addrs := freeAddrs(t, 4) // requests, sidecar's admin, stream, control's admin
	port := func(i int) string { return "port_value: " + addrs[i][strings.LastIndex(addrs[i], ":")+1:] }
	dir := t.TempDir()
	resources, boot := filepath.Join(dir, "resources"), filepath.Join(dir, "boot.yaml")
	route := strings.NewReplacer("port_value: 8080", port(0), "route: {cluster: stats}", "direct_response: {status: 200, body: {inline_string: one}}")
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(resources, "all.yaml"), blocks[0][1])
	write(boot, strings.ReplaceAll(blocks[1][1], "port_value: 18000", port(2)))
	says(t, exitOK, "0 warnings", "config", "validate", "-c", boot, "--snapshot", resources, "--strict")
	write(filepath.Join(resources, "all.yaml"), route.Replace(blocks[0][1]))

	runInBackground(t, []string{"control", "--config", resources, "--listen", addrs[2], "--admin", addrs[3]})
	var log bytes.Buffer
	startManagedSidecar(t, []string{"-c", boot, "--admin", addrs[1], "--state-dir", "none"}, &log)
	eventually(t, "the first configuration answers", func() bool { return body("http://"+addrs[0]+"/") == "one" })
	says(t, exitOK, "connected for", "xds", "status", "--admin", addrs[1])
	says(t, exitOK, "sidecar-1  web      -      delta   1    1    1    1", "xds", "status", "--admin", addrs[3], "--check")
	eventually(t, "both have the same", func() bool {
		return execute(t.Context(), []string{"xds", "diff", addrs[3], addrs[1]}, io.Discard, io.Discard) == exitOK
	})

	// A listener that cannot be had is refused by the sidecar, and both say why.
	write(filepath.Join(resources, "all.yaml"), strings.ReplaceAll(strings.ReplaceAll(route.Replace(blocks[0][1]), port(0), port(3)), "string: one", "string: two"))
	eventually(t, "the second configuration answers", func() bool { return body("http://"+addrs[0]+"/") == "two" })
	eventually(t, "the rejection is known", func() bool {
		return execute(t.Context(), []string{"xds", "status", "--admin", addrs[3], "--check"}, io.Discard, io.Discard) == exitShort
	})
	says(t, exitOK, "address already in use", "xds", "status", "--admin", addrs[1])
	says(t, exitOK, "all.yaml:11", "xds", "status", "--admin", addrs[3], "--node", "sidecar-1")
	says(t, exitOK, `"rejected"`, "xds", "status", "--admin", addrs[3], "--format", "json")
	says(t, exitShort, "address.socket_address.port_value", "xds", "diff", addrs[1], resources)

	write(filepath.Join(resources, "all.yaml"), "virtual_hostz: 1")
	eventually(t, "the bad file is known", func() bool {
		var out bytes.Buffer
		execute(t.Context(), []string{"xds", "status", "--admin", addrs[3]}, &out, io.Discard)
		return strings.Contains(out.String(), "all.yaml:1: has neither") && strings.Contains(out.String(), "what was served before still is")
	})
	if got := body("http://" + addrs[0] + "/"); got != "two" {
		t.Errorf("with a bad file the sidecar answers %q", got)
	}
}

// says runs a command and looks for text in what it prints.
func says(t *testing.T, code int, text string, args ...string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := execute(t.Context(), args, &out, &errs); got != code || !strings.Contains(out.String(), text) {
		t.Errorf("quadnine %s: exit %d, want %d and %q; it says\n%s%s", strings.Join(args, " "), got, code, text, out.String(), errs.String())
	}
}

// startManagedSidecar runs a sidecar until the test ends.
func startManagedSidecar(t *testing.T, args []string, log *bytes.Buffer) {
	t.Helper()
	code := make(chan int, 1)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { code <- execute(ctx, args, io.Discard, log) }()
	t.Cleanup(func() {
		stop()
		if c := <-code; c != exitOK {
			t.Errorf("quadnine %v: exit %d\n%s", args, c, log.String())
		}
	})
}

// body returns what a URL answers; "" without an answer.
func body(url string) string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return ""
	}
	return string(b)
}

// eventually waits for what comes over loopback.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}
