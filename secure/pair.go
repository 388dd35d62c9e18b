package secure

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/quadnine/quadnine/snapshot"
)

// pair is a certificate and its key.
type pair struct {
	what    snapshot.Certificate
	cert    atomic.Pointer[tls.Certificate] // the last good one
	version atomic.Uint64                   // of cert

	mu    sync.Mutex
	files source
	last  [][]byte // guarded by mu: what was read last, good or not
	err   error    // guarded by mu: why that is not cert
}

func newPair(c snapshot.Certificate) *pair {
	return &pair{what: c, files: source{data: []snapshot.PEM{c.Chain, c.Key}, watch: c.Watch}}
}

// refresh reads the files if they have changed. It reports whether there is
// something new to tell: another certificate, or another error.
func (p *pair) refresh() (news bool, err error) {
	p.mu.Lock() // who comes after a change sees it, also while another reads
	defer p.mu.Unlock()
	if !p.files.changed() {
		return false, p.err
	}
	data, err := p.files.read()
	if err == nil {
		if len(p.last) == len(data) && bytes.Equal(p.last[0], data[0]) && bytes.Equal(p.last[1], data[1]) {
			return false, p.err
		}
		p.last = data
		var cert tls.Certificate
		if cert, err = ParsePair(p.what, data[0], data[1]); err == nil {
			p.cert.Store(&cert)
			p.version.Add(1)
			p.err = nil
			return true, nil
		}
	}
	if data == nil {
		p.last = nil // what comes is looked at, also if it is what there was before
	}
	if p.err != nil && p.err.Error() == err.Error() {
		return false, p.err
	}
	p.err = err
	return true, err
}

// ReadPair reads a certificate and its key.
func ReadPair(c snapshot.Certificate) (tls.Certificate, error) {
	s := newPair(c)
	if _, err := s.refresh(); err != nil {
		return tls.Certificate{}, err
	}
	return *s.cert.Load(), nil
}

// ParsePair makes a pair of what c's chain and key hold. Errors say which of both
// is wrong and never hold any of it.
func ParsePair(c snapshot.Certificate, chain, key []byte) (tls.Certificate, error) {
	leaf, err := firstCertificate(chain)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate chain %s: %w", origin(c.Chain), err)
	}
	if err := looksLikeKey(key); err != nil {
		return tls.Certificate{}, fmt.Errorf("private key %s: %w", origin(c.Key), err)
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		if strings.Contains(err.Error(), "does not match") {
			return cert, fmt.Errorf("private key %s does not belong to the certificate %s (for %s): give the key that the certificate was issued for", origin(c.Key), origin(c.Chain), namesOf(leaf))
		}
		return cert, fmt.Errorf("private key %s: %w", origin(c.Key), err)
	}
	return cert, nil
}

func firstCertificate(data []byte) (*x509.Certificate, error) {
	for rest := data; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return nil, errors.New("holds no PEM block CERTIFICATE")
		}
		if b.Type == "CERTIFICATE" {
			return x509.ParseCertificate(b.Bytes)
		}
	}
}

func looksLikeKey(data []byte) error {
	for rest := data; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return errors.New("holds no PEM block PRIVATE KEY")
		}
		switch {
		case b.Type == "ENCRYPTED PRIVATE KEY", b.Headers["DEK-Info"] != "":
			return errors.New("is encrypted, and no password is taken: store it in plain, readable by this process only")
		case strings.HasSuffix(b.Type, "PRIVATE KEY"):
			return nil
		}
	}
}
