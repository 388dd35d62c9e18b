package load_test

import (
	"errors"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/load"
)

const report = `starting benchmark...
spawning thread #0: 8 total client(s). 20000 total requests
Application protocol: h2c
progress: 100% done

finished in 1.50s, 13333.33 req/s, 3.10MB/s
requests: 20000 total, 20000 started, 20000 done, 19998 succeeded, 2 failed, 0 errored, 0 timeout
status codes: 19990 2xx, 0 3xx, 8 4xx, 2 5xx
traffic: 4.65MB (4880168) total, 156.41KB (160168) headers (space savings 95.10%), 3.81MB (4000000) data
`

func TestParse(t *testing.T) {
	got, err := load.Parse(report)
	if err != nil {
		t.Fatal(err)
	}
	want := load.Result{Took: 1500 * time.Millisecond, PerSecond: 13333.33, Succeeded: 19998, Failed: 2, OK: 19990}
	if got != want {
		t.Fatalf("Parse = %+v, want %+v", got, want)
	}
}

func TestParseRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, out := range []string{"", "connect: refused", report[:120]} {
		if r, err := load.Parse(out); !errors.Is(err, load.ErrReport) {
			t.Errorf("Parse(%q) = %+v, %v; want ErrReport", out, r, err)
		}
	}
}
