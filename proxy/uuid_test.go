package proxy

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"regexp"
	"testing"
)

func TestUUID(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[string]bool)
	for range 1000 {
		u := string(appendUUID(nil))
		if !form.MatchString(u) || seen[u] {
			t.Fatalf("%q is no new random UUID", u)
		}
		seen[u] = true
	}
	if u := appendUUID([]byte("id ")); len(u) != 39 || string(u[:3]) != "id " {
		t.Errorf("appended: %q", u)
	}
}

func TestHexOf(t *testing.T) {
	for i := range uint32(2000) {
		n := rand.Uint32()
		if i < 16 {
			n = i * 0x11111111 // each digit
		}
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], hexOf(uint64(n)))
		if want := fmt.Sprintf("%08x", n); string(b[:]) != want {
			t.Fatalf("%q, want %q", b, want)
		}
	}
}
