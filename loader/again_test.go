package loader

import (
	"errors"
	"testing"
)

// reader is what View.Again returns.
type reader = func(func(tensor func(string) (string, []byte, bool)) error) error

// TestAgain: what was prepared looks at its version's bytes later on, also after
// another took its place; a version is not freed while it does, and an error
// afterwards.
func TestAgain(t *testing.T) {
	again := map[uint64]reader{}
	r := newRig(t, func(o *Options) {
		o.Prepare = func(w View) (any, error) {
			again[w.Info().Number] = w.Again()
			return nil, nil
		}
	})
	first := func(n uint64) (b byte, err error) {
		err = again[n](func(tensor func(string) (string, []byte, bool)) error {
			_, data, ok := tensor("small")
			if !ok {
				return errors.New("no tensor")
			}
			b = data[0]
			return nil
		})
		return b, err
	}
	for n := range uint64(2) {
		r.drop(n+1, n, atOnce)
		r.await(EventActive, n+1)
	}
	for n := range uint64(2) {
		if b, err := first(n + 1); err != nil || b != byte(n+1) {
			t.Errorf("version %d: %d, %v", n+1, b, err)
		}
	}
	look := func(func(string) (string, []byte, bool)) error { return nil }
	if n := testing.AllocsPerRun(100, func() { _ = again[1](look) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
	reading, done, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- again[1](func(tensor func(string) (string, []byte, bool)) error {
			close(reading)
			<-done
			if _, data, _ := tensor("small"); data[0] != 1 {
				t.Errorf("byte %d", data[0])
			}
			return nil
		})
	}()
	<-reading
	r.drop(3, 2, atOnce) // version 1 is on its way out, and held
	r.await(EventActive, 3)
	close(done)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	r.await(EventUnloadSuccess, 1)
	if _, err := first(1); !errors.Is(err, ErrRevoked) {
		t.Errorf("after version 1 was freed: %v, want ErrRevoked", err)
	}
	if b, err := first(2); err != nil || b != 2 {
		t.Errorf("the standby: %d, %v", b, err)
	}
	r.close()
}
