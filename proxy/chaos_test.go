package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
)

// Whatever callers, upstreams and versions do, no lease stays out, and every
// number is the one of the version that the reply names.
func TestEveryNumberIsItsVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(rand.Uint64(), 2))
		var mu sync.Mutex
		dice := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return rng.IntN(n)
		}
		s := onTrial(t, weighted(1, 2), weighted(2, 5, "uvd", "pvd"), everyone/3)
		s.standby = weighted(3, 7)
		r := newRig(t, snapshot.Source{
			Degrade: []string{"/api"}, Timeout: time.Second, Idle: 3 * time.Second,
			Upstreams: []string{"h2c://app:80", "http://dead:80"}, Peers: []string{"http://peer:80"}, Trust: []string{"192.0.2.0/24"},
		}, s.with, func(o *Options) { o.Shards, o.Workers = 2, 2 })
		app := new(stats)
		chaos := func(w http.ResponseWriter, req *http.Request) {
			switch dice(12) {
			case 0:
				panic(http.ErrAbortHandler)
			case 1:
				http.Error(w, "no", http.StatusServiceUnavailable)
			case 2:
				<-req.Context().Done()
			case 3:
				_, _ = io.WriteString(w, `{"value":`)
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			default:
				time.Sleep(time.Duration(dice(30)) * time.Millisecond)
				app.ServeHTTP(w, req)
			}
		}
		r.app("app:80", chaos)
		r.app("peer:80", chaos)
		numbers := map[string]float64{"score@1": 23, "score@2": 40, "score@3": 73}
		var whole atomic.Int64
		var wg sync.WaitGroup
		for _, c := range []*http.Client{r.newClient(testkit.H2), r.newClient(testkit.H1), r.newClient(testkit.H2)} {
			for range 8 {
				wg.Go(func() {
					for range 20 {
						method, body := http.MethodGet, io.Reader(http.NoBody)
						if dice(4) == 0 {
							method, body = http.MethodPost, strings.NewReader(strings.Repeat("q", dice(20<<10)))
						}
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(dice(3000)+1)*time.Millisecond)
						req := r.request(method, fmt.Sprintf("%s&x=%d", score, dice(20)), body, "X-User-Id", strconv.Itoa(dice(50))).WithContext(ctx)
						resp, err := c.Do(req)
						if err == nil {
							var v struct{ Value float64 }
							b, err := io.ReadAll(resp.Body)
							_ = resp.Body.Close()
							if model := resp.Header.Get("X-Quadnine-Model"); err == nil && model != "" {
								if json.Unmarshal(b, &v) != nil || v.Value != numbers[model] {
									t.Errorf("%s said %s", model, b)
								}
								whole.Add(1)
							}
						}
						cancel()
					}
				})
			}
		}
		time.Sleep(2 * time.Second)
		s.set(func() { s.active, s.standby = s.canary, s.active }) // promoted under load
		time.Sleep(time.Second)
		s.set(func() { s.canary, s.trial, s.share = weighted(4, math.NaN()), newTrial(t), everyone/3 })
		wg.Wait()
		time.Sleep(time.Minute)
		r.settled()
		s.balanced(t)
		if whole.Load() < 50 {
			t.Fatalf("only %d numbers: this tests nothing", whole.Load())
		}
		t.Logf("%d numbers, taken back %v", whole.Load(), s.back())
	})
}
