package secure

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// roots are the certificates of those who may issue a peer's.
type roots struct {
	what    snapshot.PEM
	pool    atomic.Pointer[x509.CertPool] // the last good ones
	ends    atomic.Pointer[time.Time]     // when the first of them ends
	version atomic.Uint64

	mu    sync.Mutex
	files source
	last  []byte // guarded by mu
	err   error  // guarded by mu
}

func newRoots(v *snapshot.Validation) *roots {
	return &roots{what: v.Roots, files: source{data: []snapshot.PEM{v.Roots}, watch: v.Watch}}
}

// refresh is as pair.refresh.
func (r *roots) refresh() (news bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.files.changed() {
		return false, r.err
	}
	data, err := r.files.read()
	if err == nil {
		if r.last != nil && bytes.Equal(r.last, data[0]) {
			return false, r.err
		}
		r.last = data[0]
		var pool *x509.CertPool
		var ends time.Time
		if pool, ends, err = parseRoots(data[0]); err == nil {
			r.pool.Store(pool)
			r.ends.Store(&ends)
			r.version.Add(1)
			r.err = nil
			return true, nil
		}
	}
	if data == nil {
		r.last = nil
	}
	if err = fmt.Errorf("trusted_ca %s: %w", origin(r.what), err); r.err != nil && r.err.Error() == err.Error() {
		return false, r.err
	}
	r.err = err
	return true, err
}

// ReadRoots reads a bundle of certificates.
func ReadRoots(d snapshot.PEM) (*x509.CertPool, error) {
	r := newRoots(&snapshot.Validation{Roots: d})
	if _, err := r.refresh(); err != nil {
		return nil, err
	}
	return r.pool.Load(), nil
}

// parseRoots reads a bundle. Unlike x509's reader it leaves nothing out silently:
// half a bundle would refuse half the peers.
func parseRoots(data []byte) (pool *x509.CertPool, ends time.Time, err error) {
	pool = x509.NewCertPool()
	n := 0
	for rest := data; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, ends, fmt.Errorf("certificate %d: %w", n+1, err)
		}
		if pool.AddCert(c); n == 0 || c.NotAfter.Before(ends) {
			ends = c.NotAfter
		}
		n++
	}
	if n == 0 {
		return nil, ends, errors.New("holds no PEM block CERTIFICATE")
	}
	return pool, ends, nil
}
