package conformance

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
)

// Credentials of the S3 server's one account.
const (
	s3Key    = "conformance"
	s3Secret = "correct-horse-battery"
)

// s3Server is versitygw on a directory.
type s3Server struct {
	*proc.Proc

	addr, dir string
}

// startS3 starts versitygw at addr, with one bucket called models.
func startS3(t *testing.T, addr, dir string, flags ...string) *s3Server {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "root", "models"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := &s3Server{addr: addr, dir: dir}
	args := append([]string{"--port", addr, "--access", s3Key, "--secret", s3Secret, "--access-log", filepath.Join(dir, "access.log")}, flags...)
	s.Proc = tool(t, "versitygw", append(args, "posix", filepath.Join(dir, "root"))...)
	listening(t, s.Proc, addr)
	return s
}

// bucketURL is the bucket as it is reached at addr.
func bucketURL(addr string) string {
	return "s3://models/prod?endpoint=http://" + addr + "&region=us-east-1"
}

// s3Env is what the sidecar's and the command's credentials come from.
func s3Env(secret string) []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s3Key, "AWS_SECRET_ACCESS_KEY=" + secret}
}

var gotObject = regexp.MustCompile(`s3_GetObject (\S+) \S+ 200 `)

// fetched returns the keys of the objects that the server gave away, by its own log.
func (s *s3Server) fetched(t *testing.T) []string {
	t.Helper()
	var keys []string
	for _, m := range gotObject.FindAllStringSubmatch(string(read(t, filepath.Join(s.dir, "access.log"))), -1) {
		keys = append(keys, m[1])
	}
	return keys
}

// object returns where the server keeps an object.
func (s *s3Server) object(key string) string {
	return filepath.Join(s.dir, "root", "models", "prod", key)
}

// push runs `quadnine model push` for version n.
func (m *modelStand) push(t *testing.T, addr string, n int) {
	t.Helper()
	p := start(t, bin.quadnine, []string{"model", "push", m.packed(n), bucketURL(addr)}, proc.Env(s3Env(s3Secret)...))
	if err := p.Wait(deadline(t, within)); err != nil {
		t.Fatalf("push: %v\n%s", err, p.Output())
	}
}

// fromBucket starts the sidecar anew with a bucket, and with the watched directory
// too.
func (m *modelStand) fromBucket(t *testing.T, addr, secret string, flags ...string) {
	t.Helper()
	m.Kill()
	args := append([]string{"--upstream", "http://" + m.upstream, "--models", m.watched, "--model-store", m.store, "--model-bucket", bucketURL(addr), "--model-bucket-poll", "200ms"}, flags...)
	m.sidecar = startSidecar(t, s3Env(secret), args...)
}

// becomes waits until version n is in a state.
func (m *modelStand) becomes(t *testing.T, n int, state string) {
	t.Helper()
	ctx := deadline(t, 2*within)
	if !until(ctx, func() bool { return m.models(ctx).state(n) == state }) {
		t.Fatalf("version %d is not %q:\n%s", n, state, mustGet(t, client(t, false), "http://"+m.admin+"/models"))
	}
}

// says waits until /models says so.
func (m *modelStand) says(t *testing.T, what string) {
	t.Helper()
	ctx := deadline(t, 2*within)
	if !until(ctx, func() bool {
		_, page, err := get(ctx, http.DefaultClient, "http://"+m.admin+"/models")
		return err == nil && bytes.Contains(page, []byte(what))
	}) {
		t.Fatalf("/models does not say %q:\n%s", what, mustGet(t, client(t, false), "http://"+m.admin+"/models"))
	}
}

// answers checks that version n answers what numpy says.
func (m *modelStand) answers(t *testing.T, n int) {
	t.Helper()
	r, err := askScore(deadline(t, within), client(t, true), m.url(score), "somebody")
	if err != nil || r.model != modelName(n) || r.value != m.want[modelName(n)] {
		t.Fatalf("%v by %q, numpy says %v for version %d: %v", r.value, r.model, m.want[modelName(n)], n, err)
	}
}

// received returns the bytes that the sidecar says it fetched.
func (m *modelStand) received(t *testing.T) int64 {
	t.Helper()
	page := string(mustGet(t, client(t, false), "http://"+m.admin+"/stats/prometheus"))
	for line := range strings.Lines(page) {
		if text, ok := strings.CutPrefix(line, "quadnine_model_bucket_received_bytes_total "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				t.Fatal(err)
			}
			return int64(n)
		}
	}
	t.Fatal("no quadnine_model_bucket_received_bytes_total")
	return 0
}

// TestModelsComeFromABucket pushes versions to a real S3 server: the sidecar takes
// them, over deltas where that is less, and answers with numpy's numbers.
func TestModelsComeFromABucket(t *testing.T) {
	m := withModels(t, 4, 0)
	s3 := startS3(t, addrs(t, 1)[0], t.TempDir())
	m.fromBucket(t, s3.addr, s3Secret)
	for n := 1; n <= 4; n++ {
		m.pack(t, n, "--canary-weight", "0")
	}
	m.push(t, s3.addr, 1)
	m.becomes(t, 1, "active")
	m.answers(t, 1)
	before, keys := m.received(t), len(s3.fetched(t))

	m.push(t, s3.addr, 2)
	m.push(t, s3.addr, 2) // a second time changes nothing
	m.becomes(t, 2, "active")
	m.answers(t, 2)
	if got, want := m.received(t)-before, size(t, m.packed(2)); got != want {
		t.Errorf("%d bytes were fetched for version 2, its drop has %d", got, want)
	}

	// A sidecar that was away takes the newest over what lies between, in deltas.
	m.Kill()
	m.push(t, s3.addr, 3)
	m.push(t, s3.addr, 4)
	m.fromBucket(t, s3.addr, s3Secret)
	m.becomes(t, 4, "active")
	m.answers(t, 4)
	want := size(t, m.packed(3)) + size(t, m.packed(4))
	for n := 1; n <= 2; n++ { // manifests are read anew after a start
		want += size(t, filepath.Join(m.packed(n), "MANIFEST.json"))
	}
	if got := m.received(t); got != want {
		t.Errorf("%d bytes were fetched for version 4 over 3, want %d", got, want)
	}
	for _, key := range s3.fetched(t)[keys:] {
		if strings.HasSuffix(key, ".safetensors") {
			t.Errorf("the server gave %s away, which nobody needs", key)
		}
	}
	if state := m.models(t.Context()).state(3); state != "tiered" {
		t.Errorf("version 3 is %q, want only a base", state)
	}
}

// gate is a TCP proxy that lets so many bytes of what the server answers through,
// and then nothing until it is opened, which cuts the connections that waited.
type gate struct {
	addr string
	open chan struct{}
	full chan struct{} // closed when the bytes are through
}

func newGate(t *testing.T, to string, most int64) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{addr: l.Addr().String(), open: make(chan struct{}), full: make(chan struct{})}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	var mu sync.Mutex
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			wg.Go(func() { _, _ = io.Copy(s, c); s.Close() }) // ends with either side
			wg.Go(func() {
				defer c.Close()
				defer s.Close()
				buf := make([]byte, 16<<10)
				for {
					n, err := s.Read(buf)
					mu.Lock()
					before := most
					most -= int64(n)
					mu.Unlock()
					if before >= 0 && before < int64(n) {
						close(g.full)
					}
					if before < int64(n) {
						select {
						case <-g.open:
						default:
							<-g.open
							return // what was held is lost, as with the host
						}
					}
					if _, werr := c.Write(buf[:n]); err != nil || werr != nil {
						return
					}
				}
			})
		}
	})
	return g
}

// TestTheBucketsServerIsKilled kills the server in the middle of a download, which
// goes on when it is back; while it is away the sidecar goes on with what it has.
func TestTheBucketsServerIsKilled(t *testing.T) {
	m := withModels(t, 3, 0)
	s3 := startS3(t, addrs(t, 1)[0], t.TempDir())
	m.pack(t, 1, "--canary-weight", "0")
	m.pack(t, 2, "--canary-weight", "0")
	m.pack(t, 3, "--canary-weight", "0")
	m.push(t, s3.addr, 1)
	g := newGate(t, s3.addr, size(t, m.packed(1))/2)
	m.fromBucket(t, g.addr, s3Secret)
	select {
	case <-g.full:
	case <-deadline(t, 2*within).Done():
		t.Fatal("nothing is fetched")
	}
	s3.Kill()
	close(g.open)
	s3 = startS3(t, s3.addr, s3.dir)
	m.becomes(t, 1, "active")
	m.answers(t, 1)

	s3.Kill()
	m.drop(t, 2) // the watched directory does not wait for the bucket
	m.becomes(t, 2, "active")
	m.answers(t, 2)
	m.says(t, "given up after 5 attempts")
	s3 = startS3(t, s3.addr, s3.dir)
	m.push(t, s3.addr, 3)
	m.becomes(t, 3, "active")
	m.answers(t, 3)
}

// TestABucketThatRefuses: wrong credentials and a bucket that is not there are told,
// and harm nothing else.
func TestABucketThatRefuses(t *testing.T) {
	m := withModels(t, 2, 0)
	s3 := startS3(t, addrs(t, 1)[0], t.TempDir())
	m.first(t)
	m.pack(t, 2, "--canary-weight", "0")
	m.push(t, s3.addr, 2)
	m.fromBucket(t, s3.addr, "wrong")
	m.says(t, "check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	m.says(t, "SignatureDoesNotMatch")
	m.answers(t, 1)
	p := start(t, bin.quadnine, []string{"model", "push", m.packed(2), bucketURL(s3.addr)}, proc.Env(s3Env("wrong")...))
	if err := p.Wait(deadline(t, within)); err == nil || !strings.Contains(p.Output(), "check the credentials") {
		t.Errorf("push with wrong credentials: %v\n%s", err, p.Output())
	}
	if err := os.Rename(filepath.Join(s3.dir, "root", "models"), filepath.Join(s3.dir, "root", "other")); err != nil {
		t.Fatal(err)
	}
	m.fromBucket(t, s3.addr, s3Secret)
	m.says(t, "there is no such bucket")
	m.answers(t, 1)
	if err := os.Rename(filepath.Join(s3.dir, "root", "other"), filepath.Join(s3.dir, "root", "models")); err != nil {
		t.Fatal(err)
	}
	m.becomes(t, 2, "active")
	m.answers(t, 2)
}

// TestVersionsAreTieredAndComeBack moves a version that nothing needs to the bucket,
// and activates it again from there.
func TestVersionsAreTieredAndComeBack(t *testing.T) {
	m := withModels(t, 3, 0)
	s3 := startS3(t, addrs(t, 1)[0], t.TempDir())
	m.fromBucket(t, s3.addr, s3Secret, "--model-tier-after", "1ms")
	for n := 1; n <= 3; n++ {
		args := []string{"pack", m.file(n), "--model", "score", "--version", strconv.Itoa(n), "--eval", filepath.Join(m.dir, "eval.json"), "--canary-weight", "0", "-o", m.packed(n)}
		model(t, args...) // each whole: none is made of another
		m.drop(t, n)
		m.becomes(t, n, "active")
	}
	m.becomes(t, 1, "tiered")
	if !bytes.Equal(read(t, s3.object("score/1/model.safetensors")), read(t, m.file(1))) {
		t.Error("the bucket's file is not the version's")
	}
	ctx := deadline(t, within)
	gone := func(n int) bool {
		_, err := os.Stat(filepath.Join(m.store, "models", "score", strconv.Itoa(n)))
		return os.IsNotExist(err)
	}
	if !until(ctx, func() bool { return gone(1) }) || gone(2) || gone(3) {
		t.Errorf("of versions 1 to 3 these are gone from the store: %t %t %t, want the first alone", gone(1), gone(2), gone(3))
	}
	m.answers(t, 3)
	p := start(t, bin.quadnine, []string{"model", "activate", "score", "1", "--admin", m.admin})
	if err := p.Wait(deadline(t, within)); err != nil || !strings.Contains(p.Output(), "score@1 is active") {
		t.Fatalf("activate: %v\n%s", err, p.Output())
	}
	m.answers(t, 1)
	m.becomes(t, 2, "tiered") // nothing needs it any more
	m.answers(t, 1)
}

// TestACutDownloadIsNeverServed: whatever is in the bucket, a version that is not
// whole is none.
func TestACutDownloadIsNeverServed(t *testing.T) {
	m := withModels(t, 2, 0)
	s3 := startS3(t, addrs(t, 1)[0], t.TempDir())
	m.pack(t, 1, "--canary-weight", "0")
	m.pack(t, 2, "--canary-weight", "0")
	m.push(t, s3.addr, 1)
	m.fromBucket(t, s3.addr, s3Secret)
	m.becomes(t, 1, "active")
	m.Kill() // so that it sees version 2 first when it is broken
	m.push(t, s3.addr, 2)
	b := read(t, s3.object("score/2/v2.qd"))
	b[len(b)-1] ^= 1
	if err := os.WriteFile(s3.object("score/2/v2.qd"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	m.fromBucket(t, s3.addr, s3Secret)
	m.says(t, "s3://models/prod/score/2: ")
	m.answers(t, 1)
	var bad bool
	for _, model := range m.models(t.Context()).Models {
		for _, q := range model.Quarantined {
			bad = bad || strings.Contains(q.Reason, "the header") && strings.Contains(q.Drop, "score/2")
		}
	}
	if !bad {
		t.Errorf("no digest is told:\n%s", mustGet(t, client(t, false), "http://"+m.admin+"/models"))
	}
}

// TestObjectsPage runs the commands of docs/objects.md as they stand there.
func TestObjectsPage(t *testing.T) {
	page := string(read(t, filepath.Join("..", "docs", "objects.md")))
	lines := regexp.MustCompile(`(?m)^\$ (.*)$`).FindAllStringSubmatch(page, -1)
	if len(lines) < 5 {
		t.Fatalf("found %d commands in docs/objects.md", len(lines))
	}
	m := withModels(t, 2, 0)
	s3 := startS3(t, addrs(t, 1)[0], t.TempDir(), "--region", "eu-central-1")
	t.Setenv("AWS_ENDPOINT_URL", "http://"+s3.addr)
	t.Setenv("AWS_ACCESS_KEY_ID", s3Key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3Secret)
	if err := os.Mkdir(filepath.Join(m.dir, "drops"), 0o755); err != nil {
		t.Fatal(err)
	}
	runShown(t, m.dir, "quadnine model pack v1.safetensors --model score --version 1 --eval eval.json -o drops/v1")
	runShown(t, m.dir, "quadnine model push drops/v1 's3://models/prod?region=eu-central-1'")
	running := false
	for _, l := range lines {
		line := l[1]
		flags, run := strings.CutPrefix(line, "quadnine run ")
		switch {
		case run:
			_, url, _ := strings.Cut(flags, "--model-bucket '")
			url, _, _ = strings.Cut(url, "'")
			m.Kill()
			m.sidecar = startSidecar(t, nil, "--upstream", "http://"+m.upstream, "--model-store", m.store, "--model-bucket", url, "--model-bucket-poll", "200ms")
			running = true
			m.becomes(t, 2, "active")
			m.answers(t, 2)
		case running:
			runShown(t, m.dir, line+" --admin "+m.admin)
		default:
			runShown(t, m.dir, line)
		}
	}
	m.becomes(t, 1, "active")
	m.answers(t, 1)
}
