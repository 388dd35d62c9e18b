package shard

import "testing"

// TestNoLargeOutputIsKept: an idle connection holds no large buffer, whatever was
// written on it.
func TestNoLargeOutputIsKept(t *testing.T) {
	for _, size := range []int{200, keepOutput, keepOutput + 1, 80 << 10, 1 << 20} {
		h := start(t)
		near, far := tcp(t)
		l := h.attach(near, &toy{echo: true})
		h.say(l, make([]byte, size))
		read(t, far, size)
		h.do(func() {
			if n := cap(l.spare); n > keepOutput {
				t.Errorf("%d bytes are kept after %d were written, want at most %d", n, size, keepOutput)
			}
		})
	}
}
