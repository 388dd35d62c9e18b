package proxy

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// TestAccessLogs: the default line, JSON and the response_flag filter.
func TestAccessLogs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := envoyRig(t, func(l *snapshot.Listener, h *snapshot.VirtualHost) {
			l.HTTP.AccessLogs = []*snapshot.AccessLog{
				{Path: filepath.Join(dir, "text"), Format: format(t, snapshot.DefaultAccessLogFormat)},
				{Path: filepath.Join(dir, "nr"), Format: format(t, "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n"), Flags: []string{"NR"}},
				{Path: filepath.Join(dir, "json"), JSON: []snapshot.JSONField{{Name: "code", Value: format(t, "%RESPONSE_CODE%")}, {Name: "none", Value: format(t, "%REQ(x-none)%")}, {Name: "from", Value: format(t, "%UPSTREAM_LOCAL_ADDRESS%")}, {Name: "q", Value: format(t, `a"%REQ(x-none)%`)}}},
			}
			h.Routes = []*snapshot.Route{{Match: snapshot.RouteMatch{Path: "/a"}, Forward: &snapshot.Forward{Cluster: "a", NotFoundStatus: 503, PrefixRewrite: "/z"}}}
		})
		r.do(r.request(http.MethodPost, "/a?wait=25ms", strings.NewReader("hello"), "user-agent", "t", "x-request-id", "id")).want(t, 200, "")
		r.get("/none", "user-agent", "t", "x-request-id", "id").want(t, 404, "")
		r.settled()
		r.server.Close()
	})
	lines := func(name string) []string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	}
	text := lines("text")
	if len(text) != 2 || !strings.HasPrefix(text[0], `[2000-01-01T00:00:0`) || !strings.Contains(text[0], `Z] "POST /a?wait=25ms HTTP/2" 200 - 5 `) ||
		!strings.HasSuffix(text[0], ` 25 24 "-" "t" "id" "sidecar:80" "a:80"`) || !strings.HasSuffix(text[1], `"GET /none HTTP/2" 404 NR 0 0 0 - "-" "t" "id" "sidecar:80" "-"`) {
		t.Errorf("text: %q", text)
	}
	if got := lines("nr"); len(got) != 1 || got[0] != "NR route_not_found" {
		t.Errorf("response_flag filter: %q", got)
	}
	if got := lines("json"); len(got) != 2 || got[0] != `{"code":200,"none":null,"from":"192.0.2.1:4000","q":"a\"-"}` {
		t.Errorf("json: %q", got)
	}
}

// TestAccessLogThatCannotBeWritten: the listener is refused; where it is applied
// nevertheless requests do not notice, and drops are counted.
func TestAccessLogThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", named("a"))
		r.apply(snapshotOf([]*snapshot.Listener{listener("in", "sidecar:80", "a")}, cluster("a", "a:80")))
		l := listener("in", "sidecar:80", "a")
		path := filepath.Join(t.TempDir(), "no", "such")
		l.HTTP.AccessLogs = []*snapshot.AccessLog{{Path: path, Format: format(t, "x\n")}}
		err := r.server.Listen(l)
		if _, ok := errors.AsType[*fs.PathError](err); !ok || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v, want one with %s", err, path)
		}
		if err := r.server.Apply(snapshotOf([]*snapshot.Listener{l}, cluster("a", "a:80"))); err != nil {
			t.Fatal(err)
		}
		r.get("/").want(t, 200, "")
		r.server.Close()
		if n := r.reg.Total(telemetry.AccessLogDrops); n != 1 {
			t.Errorf("%d drops counted", n)
		}
	})
}

// TestUnusedAccessLogIsClosed: a log whose listener came to nothing is not kept
// open, and one that a listener names is, from Listen on.
func TestUnusedAccessLogIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", named("a"))
		dir := t.TempDir()
		logged := func(name string) *snapshot.Listener {
			l := listener("in", "sidecar:80", "a")
			l.HTTP.AccessLogs = []*snapshot.AccessLog{{Path: filepath.Join(dir, name), Format: format(t, "%RESPONSE_CODE%\n")}}
			return l
		}
		if err := r.server.Listen(logged("refused")); err != nil {
			t.Fatal(err)
		}
		r.apply(snapshotOf([]*snapshot.Listener{logged("served")}, cluster("a", "a:80")))
		r.server.files.mu.Lock()
		if n := len(r.server.files.files); n != 1 {
			t.Errorf("%d files are open", n)
		}
		r.server.files.mu.Unlock()
		if err := os.Rename(filepath.Join(dir, "served"), filepath.Join(dir, "moved")); err != nil {
			t.Fatal(err)
		}
		r.get("/").want(t, 200, "a")
		r.settled()
		r.server.Close()
		if b, err := os.ReadFile(filepath.Join(dir, "moved")); string(b) != "200\n" {
			t.Errorf("the log has %q, %v", b, err)
		}
	})
}
