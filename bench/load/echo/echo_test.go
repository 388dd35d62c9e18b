package echo_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/bench/load/echo"
	"github.com/quadnine/quadnine/bench/proc"
)

// body is longer than the windows that a client starts with.
var body = strings.Repeat("0123456789", 30_000)

// TestMain makes the test binary its own backend.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == echo.ChildArg {
		if err := echo.Child(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// start runs the backend and returns a client that speaks HTTP/2 to it.
func start(t *testing.T) (*http.Client, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := proc.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := proc.Start(self, []string{echo.ChildArg, addrs[0], file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	if err := p.AwaitTCP(t.Context(), addrs[0]); err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}, "http://" + addrs[0]
}

func TestReplyWaitsForWindows(t *testing.T) {
	c, url := start(t)
	for range 5 {
		res, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.Header.Get("Content-Type") != "application/json" || res.ContentLength != int64(len(body)) || res.Header.Get("Server") != "bench" {
			t.Fatalf("headers: %v", res.Header)
		}
		if err != nil || string(got) != body || res.StatusCode != http.StatusOK {
			t.Fatalf("%d with %d bytes, %v; want %d", res.StatusCode, len(got), err, len(body))
		}
	}
}

// A peer that offers no header table gets replies that need none.
func TestSmallTable(t *testing.T) {
	c, url := start(t)
	c.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxDecoderHeaderTableSize: 1} // 0 is the default of 4096
	for range 3 {
		res, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(got) != body || res.Header.Get("Server") != "bench" {
			t.Fatalf("%d bytes, %v, %v", len(got), err, res.Header)
		}
	}
}

func TestEchoesWhatComes(t *testing.T) {
	c, url := start(t)
	sent := bytes.Repeat([]byte("abcdefg"), 400_000) // 2.8 MB: more than any window
	res, err := c.Post(url+"/grpc", "application/grpc", io.MultiReader(bytes.NewReader(sent)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d of %d bytes came back: %v", len(got), len(sent), err)
	}
	if res.Trailer.Get("grpc-status") != "0" {
		t.Errorf("trailers: %v", res.Trailer)
	}
}
