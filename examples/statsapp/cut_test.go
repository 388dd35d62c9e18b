package statsapp

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"testing"
)

// The cut falls at its message however the writes are sliced, and also when it
// was asked for before the first message was written.
func TestCutWriter(t *testing.T) {
	stream := []byte("\x00\x00\x00\x00\x04aaaa\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05bbbbb\x00\x00\x00\x00\x01c")
	starts := []int{0, 9, 14, 24, 30} // where each message begins; the last is the end
	for message := range 5 {
		for _, half := range []bool{false, true} {
			want := stream[:starts[min(message, 4)]]
			if half && message < 4 {
				body := starts[message+1] - starts[message] - 5
				want = stream[:starts[message]+5+body/2]
			}
			for size := 1; size <= len(stream); size++ {
				t.Run(fmt.Sprintf("%d/%v/%d", message, half, size), func(t *testing.T) {
					rec := httptest.NewRecorder()
					c := &cut{replies: message}
					c.here(half)
					w := &cutWriter{ResponseWriter: rec, cut: c}
					for rest := stream; len(rest) > 0; {
						n := min(size, len(rest))
						if m, err := w.Write(rest[:n]); m != n || err != nil {
							t.Fatalf("Write: %d, %v", m, err)
						}
						rest = rest[n:]
						w.Flush()
					}
					if !bytes.Equal(rec.Body.Bytes(), want) {
						t.Errorf("passed %q, want %q", rec.Body, want)
					}
				})
			}
		}
	}
}

// A cut before the first message leaves nothing, not even a header.
func TestCutWriterSendsNoHeaderAtTheCut(t *testing.T) {
	rec := httptest.NewRecorder()
	c := new(cut)
	c.here(false)
	w := &cutWriter{ResponseWriter: rec, cut: c}
	w.WriteHeader(299)
	w.Flush()
	if rec.Code == 299 || rec.Flushed {
		t.Errorf("status %d, flushed %v", rec.Code, rec.Flushed)
	}
}
