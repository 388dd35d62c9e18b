package control

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// TLSFiles name the files of a server's identity. Files that change are read
// again by the next connection.
type TLSFiles struct{ Cert, Key, ClientCA string }

// Config returns a configuration that follows the files; nil when there are
// none.
func (f TLSFiles) Config() (*tls.Config, error) {
	if f == (TLSFiles{}) {
		return nil, nil
	}
	if f.Cert == "" || f.Key == "" {
		return nil, errors.New("TLS needs a certificate and its key")
	}
	r := &tlsReader{files: f}
	if _, err := r.config(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.config() },
	}, nil
}

// tlsReader keeps what was read last.
type tlsReader struct {
	files TLSFiles

	mu    sync.Mutex // guards what follows
	stamp [3]time.Time
	last  *tls.Config
}

// config returns the configuration of the files. While they are not valid it is
// the one before.
func (r *tlsReader) config() (*tls.Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var stamp [3]time.Time
	for i, name := range []string{r.files.Cert, r.files.Key, r.files.ClientCA} {
		if info, err := os.Stat(name); err == nil {
			stamp[i] = info.ModTime()
		}
	}
	if r.last != nil && stamp == r.stamp {
		return r.last, nil
	}
	c, err := r.read()
	if err != nil {
		if r.last != nil {
			return r.last, nil
		}
		return nil, err
	}
	r.last, r.stamp = c, stamp
	return c, nil
}

func (r *tlsReader) read() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(r.files.Cert, r.files.Key)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{cert}}
	if r.files.ClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(r.files.ClientCA)
	if err != nil {
		return nil, err
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: holds no certificate", r.files.ClientCA)
	}
	return c, nil
}
