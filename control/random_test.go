package control

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Whatever changes, whoever rejects and whenever nodes come: in the end every
// node has the newest of what it takes, and nobody rejected a version twice.
func TestRandomChanges(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			r := newRig(t, "keep.yaml", cluster("keep", "1s"))
			rnd := rand.New(rand.NewPCG(seed, 1))
			// Picky nodes take no timeout of 7 s.
			var mu sync.Mutex // guards seen
			seen := make(map[string]int)
			picky := func(id string) func(Kind, string) string {
				return func(k Kind, name string) string {
					if k != Clusters || !strings.Contains(name, "\x22\x02\x08\x07") {
						return ""
					}
					mu.Lock()
					seen[id+name]++
					mu.Unlock()
					return "seven"
				}
			}
			var nodes []*client
			connect := func(i int) *client {
				id := fmt.Sprintf("n%d", i)
				var reject func(Kind, string) string
				if i%3 == 0 {
					reject = picky(id)
				}
				return r.connect(id, i%2 == 0, reject)
			}
			for i := range 4 {
				nodes = append(nodes, connect(i))
				nodes[i].holds(Clusters, "keep", "\x08\x01")
			}
			timeout := make(map[string]int)
			last := 0
			for range 25 {
				switch n := rnd.IntN(10); {
				case n < 6: // change or add, often to what some reject
					name := fmt.Sprintf("c%d", rnd.IntN(3))
					last++
					timeout[name] = []int{2, 3, 4, 5, 7, 7}[rnd.IntN(6)]
					// What is rejected is made different each time.
					r.change(name+".yaml", strings.Replace(cluster(name, fmt.Sprintf("%ds", timeout[name])), "name: ", fmt.Sprintf("per_connection_buffer_limit_bytes: %d\nname: ", 1<<16+last), 1))
				case n < 8: // take away
					name := fmt.Sprintf("c%d", rnd.IntN(3))
					if timeout[name] != 0 {
						delete(timeout, name)
						if err := os.Remove(filepath.Join(r.dir, name+".yaml")); err != nil {
							t.Fatal(err)
						}
						r.change()
					}
				default: // a node goes and comes again
					i := rnd.IntN(len(nodes))
					r.idle() // a rejection that is under way would be lost, and rightly made again
					nodes[i].stop()
					nodes[i] = connect(i)
				}
			}
			// All is well again.
			for name := range timeout {
				timeout[name] = 9
				r.change(name+".yaml", cluster(name, "9s"))
			}
			r.change("keep.yaml", cluster("keep", "8s"))
			for _, c := range nodes {
				c.holds(Clusters, "keep", "\x22\x02\x08\x08")
				c.until("it has what the directory has", func() bool {
					for name := range timeout {
						if !strings.Contains(c.has[Clusters][name], "\x22\x02\x08\x09") {
							return false
						}
					}
					return len(c.has[Clusters]) == len(timeout)+1
				})
			}
			r.idle()
			for what, n := range seen {
				if n > 1 {
					t.Errorf("%q was rejected %d times", what, n)
				}
			}
			if bad := r.server.Status("").Groups[0].Rejected; bad != nil {
				t.Errorf("still rejected: %+v", bad)
			}
		})
	}
}
