package stage

import (
	"cmp"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// Share is what one stage used.
type Share struct {
	Stage   string
	Percent float64 // of the profile's CPU time
	Top     string  // the function that used most of it
}

// rule sends a function to a stage when its name contains one of the parts.
type rule struct {
	stage string
	parts []string
}

// whole is asked of every function on the stack, before anything else: work
// that belongs together however deep it is called.
var whole = []rule{
	{"memory: garbage collection", []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.gcStart", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcMarkTermination"}},
	{"memory: allocation", []string{"runtime.mallocgc", "runtime.growslice", "runtime.newobject"}},
	{"profiling and admin", []string{"runtime/pprof.", "net/http/pprof.", "quadnine/console."}},
}

// nearest is asked from the leaf outwards: the innermost function that is known
// decides, so a copy inside the frame decoder counts for the decoder.
var nearest = []rule{
	{"system calls: read", []string{"syscall.Read", "syscall.read", "FD).Read", "FD).RawRead"}},
	{"system calls: write", []string{"syscall.Write", "syscall.write", "FD).Write", "FD).RawWrite"}},
	{"scheduler: poll and wake", []string{"syscall.Epoll", "unix.Epoll", "runtime.netpoll", "runtime.epoll", "runtime.futex", "runtime.notewakeup", "runtime.notesleep", "runtime.usleep", "runtime.wakep", "runtime.startm", "runtime.stopm"}},
	{"mailboxes and channels", []string{"runtime.chansend", "runtime.chanrecv", "runtime.selectgo", "runtime.send", "runtime.recv", "proxy/shard.(*mailbox)", "sync.(*Mutex)", "sync.(*Cond)"}},
	{"scheduler: switching", []string{"runtime.schedule", "runtime.findRunnable", "runtime.mcall", "runtime.park_m", "runtime.gopark", "runtime.goready", "runtime.ready", "runtime.mstart", "runtime.sysmon", "runtime.goexit0"}},
	{"header compression: decode", []string{"x/net/http2/hpack.(*Decoder)", "x/net/http2/hpack.huffman", "proxy/h2.(*decoder)", "proxy/h2.appendHuffman", "proxy/h2.readInt", "proxy/h2.(*dynamicTable)"}},
	{"header compression: encode", []string{"x/net/http2/hpack.(*Encoder)", "proxy/h2.(*encoder)", "proxy/h2.staticField", "proxy/h2.appendInt", "hash/maphash"}},
	{"header compression: tables", []string{"x/net/http2/hpack."}},
	{"TLS", []string{"crypto/", "quadnine/secure.", "quadnine/proxy/tlsconn."}},
	{"frames (h2)", []string{"quadnine/proxy/h2.", "x/net/http2."}},
	{"HTTP/1.1", []string{"quadnine/proxy/h1."}},
	{"header lists", []string{"quadnine/proxy/field."}},
	{"policy: response cache", []string{"quadnine/policy.(*Cache)", "quadnine/policy.newStored", "quadnine/policy.keep", "maypok86/otter"}},
	{"policy: breakers and degrade order", []string{"quadnine/policy."}},
	{"telemetry", []string{"quadnine/telemetry", "go.opentelemetry.io/"}},
	{"upstream choice", []string{"quadnine/proxy/upstream."}},
	{"shard and timers", []string{"quadnine/proxy/shard."}},
	{"stage decode", []string{"quadnine/proxy.decode."}},
	{"stage version", []string{"quadnine/proxy.version.", "quadnine/loader", "main.(*models)"}},
	{"stage route", []string{"quadnine/proxy.route."}},
	{"stage guard", []string{"quadnine/proxy.guard."}},
	{"stage forward", []string{"quadnine/proxy.forward.", "quadnine/proxy.(*upSide)"}},
	{"stage respond", []string{"quadnine/proxy.respond."}},
	{"finish", []string{"quadnine/proxy.(*Exchange).finish", "quadnine/proxy.(*loop).store", "quadnine/proxy.(*loop).recycle"}},
	{"exchange and pipeline", []string{"quadnine/proxy.", "quadnine/snapshot."}},
	{"clock", []string{"time.now", "runtime.nanotime", "runtime.walltime", "time.Now"}},
}

// Other is the stage of samples that no rule knows.
const Other = "other"

// Of returns the stages' shares of p's CPU time, largest first.
func Of(p *profile.Profile) []Share {
	value := cpuIndex(p)
	sums, leaves := map[string]int64{}, map[string]map[string]int64{}
	var total int64
	for _, s := range p.Sample {
		stack := functions(s)
		name, v := classify(stack), s.Value[value]
		total += v
		sums[name] += v
		if len(stack) > 0 {
			if leaves[name] == nil {
				leaves[name] = map[string]int64{}
			}
			leaves[name][stack[0]] += v
		}
	}
	out := make([]Share, 0, len(sums))
	for name, v := range sums {
		out = append(out, Share{Stage: name, Percent: 100 * float64(v) / float64(max(total, 1)), Top: dearest(leaves[name])})
	}
	slices.SortFunc(out, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Percent, a.Percent), cmp.Compare(a.Stage, b.Stage))
	})
	return out
}

// classify returns the stage of a stack, leaf first.
func classify(stack []string) string {
	for _, r := range whole {
		if slices.ContainsFunc(stack, r.knows) {
			return r.stage
		}
	}
	for _, fn := range stack {
		for _, r := range nearest {
			if r.knows(fn) {
				return r.stage
			}
		}
	}
	return Other
}

// knows reports whether fn belongs to the rule.
func (r rule) knows(fn string) bool {
	return slices.ContainsFunc(r.parts, func(p string) bool { return strings.Contains(fn, p) })
}

// functions returns the stack's function names, leaf first, inlined ones too.
func functions(s *profile.Sample) []string {
	var names []string
	for _, loc := range s.Location {
		for _, l := range loc.Line {
			if l.Function != nil {
				names = append(names, l.Function.Name)
			}
		}
	}
	return names
}

// cpuIndex returns which of a sample's values is CPU time; a Go profile has it
// behind the sample count.
func cpuIndex(p *profile.Profile) int {
	i := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == "cpu" })
	return max(i, 0)
}

// dearest returns the name with the largest value.
func dearest(values map[string]int64) string {
	var best string
	for name, v := range values {
		if best == "" || v > values[best] || v == values[best] && name < best {
			best = name
		}
	}
	return best
}
