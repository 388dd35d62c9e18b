package telemetry

import (
	"strings"
	"testing"
)

// The examples of the W3C specification, section 3.2.2.5.
const (
	sampledHeader   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unsampledHeader = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
)

func TestParseTraceparent(t *testing.T) {
	for _, tc := range []struct {
		name, header string
		ok, sampled  bool
		out          string // how it is written again
	}{
		{"sampled", sampledHeader, true, true, sampledHeader},
		{"unsampled", unsampledHeader, true, false, unsampledHeader},
		{"random flag kept", strings.TrimSuffix(sampledHeader, "01") + "03", true, true, strings.TrimSuffix(sampledHeader, "01") + "03"},
		{"unknown flags dropped", strings.TrimSuffix(sampledHeader, "01") + "f9", true, true, sampledHeader},
		{"later version", "cc" + sampledHeader[2:], true, true, sampledHeader},
		{"later version, more fields", "cc" + sampledHeader[2:] + "-what", true, true, sampledHeader},
		{"later version, run on", "cc" + sampledHeader[2:] + "what", false, false, ""},
		{"version 00, more fields", sampledHeader + "-what", false, false, ""},
		{"version ff", "ff" + sampledHeader[2:], false, false, ""},
		{"upper case", strings.ToUpper(sampledHeader), false, false, ""},
		{"no trace", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", false, false, ""},
		{"no parent", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false, false, ""},
		{"not hexadecimal", "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01", false, false, ""},
		{"flags not hexadecimal", strings.TrimSuffix(sampledHeader, "01") + "0x", false, false, ""},
		{"wrong dashes", strings.Replace(sampledHeader, "-00f", "_00f", 1), false, false, ""},
		{"short", sampledHeader[:54], false, false, ""},
		{"empty", "", false, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := ParseTraceparent([]byte(tc.header))
			if ok != tc.ok || got.Sampled() != tc.sampled {
				t.Fatalf("ok %v sampled %v, want %v %v", ok, got.Sampled(), tc.ok, tc.sampled)
			}
			if !ok {
				if got != (TraceContext{}) {
					t.Fatalf("refused, yet returned %+v", got)
				}
				return
			}
			if out := string(got.AppendTraceparent([]byte("x"))); out != "x"+tc.out {
				t.Fatalf("written again as %q, want %q", out[1:], tc.out)
			}
		})
	}
}

func TestTraceparentAllocs(t *testing.T) {
	header, dst := []byte(sampledHeader), make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		tc, _ := ParseTraceparent(header)
		if !Sampled(header) {
			t.Error("not sampled")
		}
		dst = tc.AppendTraceparent(dst[:0])
	}); n != 0 {
		t.Fatalf("%v allocs, want 0", n)
	}
}

// FuzzTraceparent holds the cheap look and the full parse together, and what is
// accepted to what is written.
func FuzzTraceparent(f *testing.F) {
	f.Add([]byte(sampledHeader))
	f.Add([]byte(unsampledHeader))
	f.Add([]byte("cc" + sampledHeader[2:] + "-what"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tc, ok := ParseTraceparent(b)
		if !ok {
			return
		}
		if Sampled(b) != tc.Sampled() {
			t.Fatalf("%q: Sampled %v, parsed %v", b, Sampled(b), tc.Sampled())
		}
		again, ok := ParseTraceparent(tc.AppendTraceparent(nil))
		if !ok || again != tc {
			t.Fatalf("%q: %+v became %+v (%v)", b, tc, again, ok)
		}
	})
}

func BenchmarkSampled(b *testing.B) {
	header := []byte(unsampledHeader)
	b.ReportAllocs()
	for b.Loop() {
		if Sampled(header) {
			b.Fatal("sampled")
		}
	}
}

func BenchmarkParseTraceparent(b *testing.B) {
	header := []byte(unsampledHeader)
	b.ReportAllocs()
	for b.Loop() {
		if tc, ok := ParseTraceparent(header); !ok || tc.Sampled() {
			b.Fatal("refused or sampled")
		}
	}
}
