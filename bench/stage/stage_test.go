package stage_test

import (
	"math"
	"testing"

	"github.com/google/pprof/profile"

	"github.com/quadnine/quadnine/bench/stage"
)

// sample returns one sample of v nanoseconds, leaf first.
func sample(v int64, stack ...string) *profile.Sample {
	s := &profile.Sample{Value: []int64{1, v}}
	for _, fn := range stack {
		s.Location = append(s.Location, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: fn}}}})
	}
	return s
}

func TestOfAttributesByTheInnermostKnownFunction(t *testing.T) {
	const mod = "github.com/quadnine/quadnine/"
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples"}, {Type: "cpu"}},
		Sample: []*profile.Sample{
			sample(40, "internal/runtime/syscall.Syscall6", "syscall.write", "internal/poll.(*FD).Write", mod+"proxy/shard.(*Shard).flush"),
			sample(20, "runtime.memmove", mod+"proxy/h2.(*Conn).Feed", mod+"proxy/shard.(*Shard).Run"),
			sample(10, "golang.org/x/net/http2/hpack.(*Decoder).Write", mod+"proxy/h2.(*Conn).Feed"),
			sample(10, "runtime.memclrNoHeapPointers", "runtime.mallocgc", mod+"policy.(*Breakers).Decide"),
			sample(15, mod+"policy.(*Breakers).Decide", mod+"proxy.guard"),
			sample(3, "example.com/unknown.F"),
			sample(1, "runtime.memmove", "crypto/internal/fips140/aes/gcm.Seal", "crypto/tls.(*Conn).Write", mod+"proxy/shard.(*Shard).flush"),
			sample(1, "internal/runtime/syscall/linux.Syscall6", "syscall.EpollWait", mod+"proxy/shard.(*poller).poll"),
		},
	}
	want := map[string]float64{
		"system calls: write": 40, "frames (h2)": 20, "header compression: decode": 10,
		"memory: allocation": 10, "policy: breakers and degrade order": 15, stage.Other: 3,
		"TLS": 1, "scheduler: poll and wake": 1,
	}
	got := stage.Of(p)
	if len(got) != len(want) {
		t.Fatalf("Of = %+v, want %d stages", got, len(want))
	}
	for _, s := range got {
		if math.Abs(s.Percent-want[s.Stage]) > 1e-9 {
			t.Errorf("%s: %.1f %%, want %.1f", s.Stage, s.Percent, want[s.Stage])
		}
	}
	if got[0].Stage != "system calls: write" || got[0].Top != "internal/runtime/syscall.Syscall6" {
		t.Errorf("first line is %+v, want the largest stage with its leaf", got[0])
	}
}
