package rivals

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Body is what the backend answers to everything: 200 bytes of JSON.
var Body = `{"metric":"pv","points":[` + strings.Repeat(`[1790000000,42],`, 10) + `[0,0]],"ok":10}` //nolint:gochecknoglobals // a constant that needs Repeat

// check asks addr once over HTTP/2 with prior knowledge and compares the answer.
func check(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+QueryPath+"?tenant=t-0&metric=pv", http.NoBody)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 || string(got) != Body {
		return fmt.Errorf("check: answered HTTP/%d %d %q, want HTTP/2 200 %q", res.ProtoMajor, res.StatusCode, got, Body)
	}
	return nil
}
