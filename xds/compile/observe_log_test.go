package compile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestFormatsOfALog: all ways to write a format end in the file. What Envoy
// writes there is compared in conformance/differential.
func TestFormatsOfALog(t *testing.T) {
	for name, tc := range map[string]struct{ format, want string }{
		"nothing": {"", `"GET /x HTTP/2" 200 `},
		"format":  {`format: "%REQ(:PATH)% %RESPONSE_CODE%\n"`, "/x 200\n"},
		"json":    {`json_format: {p: "%REQ(:PATH)%"}`, `{"p":"/x"}` + "\n"},
		"typed":   {`typed_json_format: {c: "%RESPONSE_CODE%"}`, `{"c":200}` + "\n"},
		"text":    {`log_format: {text_format: "%REQ(:METHOD)%\n"}`, "GET\n"},
		"source":  {`log_format: {text_format_source: {inline_bytes: JVJFU1BPTlNFX0NPREUlCg==}}`, "200\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "a.log")
				s := newScene(t, observed{hcm: `access_log: [{name: l, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: ` + path + `, ` + tc.format + `}}]`})
				s.get("/x").is(t, 200)
				time.Sleep(time.Minute) // whoever writes has written
				text, err := os.ReadFile(path)
				if err != nil || !strings.Contains(string(text), tc.want) {
					t.Errorf("%q, %v: want %q", text, err, tc.want)
				}
			})
		})
	}
}
