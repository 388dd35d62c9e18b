package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/snapshot"
)

func TestPanicInEachStageLeavesNothingBehind(t *testing.T) {
	for at := range len(stages(nil)) {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("stage %d after=%v", at, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &shelf{model: &Model{Name: "score"}, active: routedVersion(2)}
					r := newRig(t, snapshot.Source{Degrade: []string{"/api"}}, s.with)
					app := new(faulty)
					r.app("app:80", app.ServeHTTP)
					r.get(query+"?tenant=a").want(t, 200, "a")
					swapped := make(chan struct{})
					l := r.server.loops[0]
					l.post(func() {
						l.stages[at] = latePanic{l.stages[at], after}
						close(swapped)
					})
					<-swapped
					for range 5 {
						got, err := r.try(time.Minute, r.request(http.MethodPost, query+"?tenant=a", strings.NewReader("b"), "X-Panic", "1"))
						sent := at == atRespond && after // it panicked too late
						if err == nil && got.err == nil && got.StatusCode != http.StatusInternalServerError && !sent {
							t.Fatalf("got %d %q", got.StatusCode, got.body)
						}
					}
					r.settled()
					r.get(query+"?tenant=a").want(t, 200, "a")
					if n := r.failures("a"); n != 0 {
						t.Fatalf("panics of ours count as %d failures", n)
					}
					r.settled()
					s.balanced(t)
				})
			})
		}
	}
}

// latePanic panics before or after the stage did its work.
type latePanic struct {
	stage
	after bool
}

func (p latePanic) Step(x *Exchange) Verdict {
	if x.req.Get("x-panic") == nil {
		return p.stage.Step(x)
	}
	if p.after {
		p.stage.Step(x)
	}
	panic("a stage is broken")
}

func TestHalfOpenBreakerNeverGetsStuck(t *testing.T) {
	// The ways in which a probe can end that say nothing of the upstream.
	for name, probe := range map[string]func(t *testing.T, r *rig, app *faulty, kill func()){
		"caller gone": func(_ *testing.T, r *rig, app *faulty, _ func()) {
			app.set(map[string]int{"a": -1})
			_, _ = r.try(100*time.Millisecond, r.request(http.MethodGet, query+"?tenant=a", nil))
		},
		"app dead": func(t *testing.T, r *rig, _ *faulty, kill func()) {
			t.Helper()
			kill()
			synctest.Wait()
			r.get(query+"?tenant=a").want(t, 503, "")
		},
		"caller's deadline": func(t *testing.T, r *rig, app *faulty, _ func()) {
			t.Helper()
			app.set(map[string]int{"a": -1})
			r.get(query+"?tenant=a", "Grpc-Timeout", "1S").want(t, 504, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{})
				app := new(faulty)
				l := r.app("app:80", app.ServeHTTP)
				app.set(map[string]int{"a": 500})
				for range 4 {
					r.get(query+"?tenant=a").want(t, 500, "")
				}
				r.get(query+"?tenant=a").want(t, 503, "breaker")
				time.Sleep(31 * time.Second)
				probe(t, r, app, l.Kill)
				r.settled()
				if n := r.server.Explain(keyOf("a", "")).Breaker.ProbesOut; n != 0 {
					t.Fatalf("%d leases are still out", n)
				}
			})
		})
	}
}

// Whatever callers and upstreams do, in the end nothing is left.
func TestNothingIsLeftAfterAnything(t *testing.T) {
	for _, up := range []testkit.Protocol{testkit.H2, testkit.H1} {
		t.Run(string(up), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
				r := newRig(t, snapshot.Source{
					Degrade: []string{"/api"}, Timeout: time.Second, Idle: 3 * time.Second,
					Upstreams: []string{string(up) + "://app:80", string(up) + "://app-2:80", "http://dead:80"},
					Peers:     []string{"http://peer:80"}, Trust: []string{"192.0.2.0/24"},
				})
				var mu sync.Mutex
				dice := func(n int) int {
					mu.Lock()
					defer mu.Unlock()
					return rng.IntN(n)
				}
				h := func(w http.ResponseWriter, req *http.Request) {
					if dice(3) > 0 {
						_, _ = io.CopyN(io.Discard, req.Body, int64(dice(200<<10)))
					}
					switch dice(8) {
					case 0:
						panic(http.ErrAbortHandler)
					case 1:
						http.Error(w, "no", http.StatusServiceUnavailable)
						return
					case 2:
						time.Sleep(time.Duration(dice(3000)) * time.Millisecond)
					case 3:
						w.WriteHeader(http.StatusEarlyHints)
					}
					n, broken := dice(1<<dice(22))+1, dice(8) == 0
					if broken {
						n++ // one byte more than will come
					}
					w.Header().Set("X-Len", strconv.Itoa(n))
					if broken {
						_, _ = w.Write(make([]byte, n-1))
						w.(http.Flusher).Flush()
						panic(http.ErrAbortHandler)
					}
					_, _ = w.Write(make([]byte, n))
				}
				app := r.app("app:80", h, up)
				r.app("app-2:80", h, up)
				r.app("peer:80", h, testkit.H2)
				many := r.shards(3, "many:80", snapshot.Source{
					Degrade: []string{"/api"}, Timeout: time.Second, Idle: 3 * time.Second,
					Upstreams: []string{string(up) + "://app:80", string(up) + "://app-2:80"},
				})
				hosts := []string{"sidecar:80", "many:80"}
				clients := []*http.Client{r.newClient(testkit.H2), r.newClient(testkit.H1)}
				var wg sync.WaitGroup
				var whole atomic.Int64
				for i := range 40 {
					wg.Go(func() {
						for range 10 {
							path := []string{"/", query}[dice(2)] + fmt.Sprintf("?tenant=t-%d", dice(20))
							var body io.Reader
							method := []string{"GET", "HEAD", "POST", "PUT"}[dice(4)]
							if method[0] == 'P' {
								body = bytes.NewReader(make([]byte, dice(1<<dice(20))))
							}
							ctx, cancel := context.WithTimeout(t.Context(), time.Duration(dice(5000)+1)*time.Millisecond)
							req := r.request(method, path, body).WithContext(ctx)
							req.URL.Host = hosts[dice(2)]
							resp, err := clients[i%2].Do(req)
							if err == nil {
								if dice(2) == 0 {
									_, _ = io.CopyN(io.Discard, resp.Body, int64(dice(1<<20)))
								} else if n, err := io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode == http.StatusOK && method != "HEAD" && strconv.Itoa(int(n)) != resp.Header.Get("X-Len") {
									t.Errorf("%s %s: a clean end after %d of %s bytes (%v)", method, path, n, resp.Header.Get("X-Len"), resp.Header)
								} else if err == nil {
									whole.Add(1)
								}
								_ = resp.Body.Close()
							}
							cancel()
						}
					})
				}
				time.Sleep(4 * time.Second)
				app.Kill()
				wg.Wait()
				time.Sleep(time.Minute)
				r.settled()
				r.server = many
				r.settled()
				if whole.Load() < 20 {
					t.Fatalf("only %d whole replies: this tests nothing", whole.Load())
				}
			})
		})
	}
}

// shards starts another sidecar, with n loops.
func (r *rig) shards(n int, address string, src snapshot.Source) *Server {
	r.t.Helper()
	s, _ := r.sidecar(address, src, func(o *Options) {
		o.Shards, o.Workers, o.Log = n, 2, slog.New(slog.DiscardHandler)
	})
	return s
}

func TestCloseWithExchangesInEveryState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}, Peers: []string{"h2c://mute:80"}, Trust: []string{"192.0.2.0/24"}})
		app := r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path != "/mute" {
				_, _ = w.Write(make([]byte, 100))
				w.(http.Flusher).Flush()
			}
			<-req.Context().Done()
		})
		mute := r.net.Listen("mute:80") // accepts nothing: a dial to it hangs
		defer mute.Kill()
		var wg sync.WaitGroup
		ask := func(method, path string, body io.Reader) {
			wg.Go(func() { _, _ = r.try(time.Hour, r.request(method, path, body)) })
		}
		open := func(first int) io.Reader {
			body, write := io.Pipe()
			wg.Go(func() { _, _ = write.Write(make([]byte, first)) })
			t.Cleanup(func() { _ = write.Close() })
			return body
		}
		ask("GET", query, nil)                                                // held
		ask("GET", "/", nil)                                                  // streaming
		ask("GET", "/mute", nil)                                              // waits for a head
		ask("POST", query, open(10))                                          // gathered
		ask("POST", "/", open(10))                                            // half sent
		ask("POST", query, bytes.NewReader(make([]byte, collectLimit)))       // hashed, then held
		ask("POST", query, struct{ io.Reader }{bytes.NewReader([]byte("q"))}) // held
		synctest.Wait()
		app.Kill()
		ask("GET", "/", nil) // its dial is refused, the peer's hangs
		synctest.Wait()
		if r.server.Active() == 0 {
			t.Fatal("nothing is under way")
		}
		r.server.Close()
		wg.Wait()
		r.settled()
	})
}

// An engine's event may end an exchange while a caller up the stack still looks
// at it: it must not be another's by then, nor run again.
func TestExchangeIsNotReusedWithinAWakeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		r.app("app:80", func(http.ResponseWriter, *http.Request) { t.Error("a request that nobody made") })
		near, far := net.Pipe()
		defer func() { _, _ = near.Close(), far.Close() }()
		done := make(chan string, 1)
		l := r.server.loops[0]
		l.post(func() {
			c := newDownConn(l, r.place(), far)
			x := l.begin(c, nowhere{})
			x.finish()
			x.run()
			(*upSide)(x).OnUpSent(1)
			x.onData([]byte("late"), true)
			l.shard.Stop(&c.timer)
			if y := l.begin(c, nowhere{}); x == y {
				done <- "it is another's already"
			} else {
				y.finish()
				l.shard.Stop(&c.timer)
				done <- ""
			}
		})
		if wrong := <-done; wrong != "" {
			t.Fatal(wrong)
		}
		r.settled()
	})
}

// nowhere is a stream that is over.
type nowhere struct{}

func (nowhere) WriteHead(*field.List, bool) {}

func (nowhere) WriteData([]byte, bool) int { return 0 }

func (nowhere) Consume(int) {}

func (nowhere) Reset(uint32) {}

func (nowhere) Buffered() int { return 0 }

func (nowhere) ReadEnded() bool { return true }

func (nowhere) WriteEnded() bool { return true }

func (nowhere) Release() {}
