package secure

import (
	"crypto/tls"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quadnine/quadnine/snapshot"
)

// sessions is how many sessions a client context keeps for resumption.
const sessions = 64

// Context is what connections with the same snapshot.TLS are made with. Get it
// from a Store.
type Context struct {
	store   *Store
	rules   *snapshot.TLS
	peer    Peer     // who is verified
	alpn    []string // a server's choice
	pairs   []*pair
	roots   *roots      // nil: nobody is trusted by a bundle
	tickets *tls.Config // keeps the keys of a server's session tickets, also over rotations

	built atomic.Pointer[built]
	mu    sync.Mutex // held while it is made
}

// built is a Context's configurations with what was read at one time.
type built struct {
	version  uint64
	config   *tls.Config
	bare     *tls.Config // a server's without ALPN
	verifier *Verifier   // nil: the peer is not verified
}

// Check reads what there is to read and returns what is wrong with it.
func (c *Context) Check() error {
	_, err := c.load()
	return err
}

// Server returns the configuration of a handshake with a caller that offers these
// application protocols. As in Envoy, one that offers only others is served without
// ALPN. Nobody may change what it returns.
func (c *Context) Server(offered []string) (*tls.Config, error) {
	b, err := c.load()
	if err != nil {
		return nil, err
	}
	for _, p := range offered {
		if slices.Contains(c.alpn, p) {
			return b.config, nil
		}
	}
	return b.bare, nil
}

// Client returns the configuration of a handshake with a server that goes by
// hostname, which may be empty. alpn is what is offered unless the configuration
// says it.
func (c *Context) Client(hostname string, alpn []string) (*tls.Config, error) {
	b, err := c.load()
	if err != nil {
		return nil, err
	}
	config := b.config.Clone()
	config.ServerName = c.rules.SNI
	if c.rules.SNIFromHost && hostname != "" {
		config.ServerName = hostname
	}
	if c.rules.ALPN == nil {
		config.NextProtos = alpn
	}
	if v := b.verifier; v != nil {
		switch named := c.rules.VerifySNI; {
		case named && config.ServerName != "":
			v = v.Named(config.ServerName)
		case named && len(v.rules.Names) == 0:
			return nil, errNoSNI
		}
		config.VerifyConnection = v.Verify
	}
	return config, nil
}

var errNoSNI = errors.New("auto_sni_san_validation: the endpoint has no hostname and there is no sni, so that any name of its certificate would do: set one of them")

// load returns the configurations with what the files hold now, or held when they
// were last good.
func (c *Context) load() (*built, error) {
	if c.rules.Missing != "" {
		return nil, errors.New(c.rules.Missing)
	}
	version, err := c.refresh()
	if b := c.built.Load(); b != nil && b.version == version {
		return b, nil
	}
	for _, p := range c.pairs {
		if p.cert.Load() == nil {
			return nil, err
		}
	}
	if c.roots != nil && c.roots.pool.Load() == nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.built.Load(); b != nil && b.version == c.version() {
		return b, nil
	}
	b, err := c.build()
	if err != nil {
		return nil, err
	}
	c.built.Store(b)
	return b, nil
}

// refresh has everything look at its files; err joins what is wrong with them.
func (c *Context) refresh() (version uint64, err error) {
	for _, p := range c.pairs {
		news, perr := p.refresh()
		if news {
			c.store.tell(p.tells(), p.version.Load(), perr)
		}
		err = errors.Join(err, perr)
	}
	if c.roots != nil {
		news, rerr := c.roots.refresh()
		if news {
			c.store.tell(c.roots.tells(), c.roots.version.Load(), rerr)
		}
		err = errors.Join(err, rerr)
	}
	return c.version(), err
}

// version changes when any of its parts does: they only count up.
func (c *Context) version() (sum uint64) {
	for _, p := range c.pairs {
		sum += p.version.Load()
	}
	if c.roots != nil {
		sum += c.roots.version.Load()
	}
	return sum
}

func (c *Context) build() (*built, error) {
	t := c.rules
	b := &built{version: c.version()}
	config := &tls.Config{
		MinVersion: t.MinVersion, MaxVersion: t.MaxVersion, CipherSuites: t.CipherSuites, CurvePreferences: t.Curves,
		NextProtos: t.ALPN,
		// Records as large as what is sent: the small first ones that Go would send
		// are for browsers on slow links.
		DynamicRecordSizingDisabled: true,
	}
	for _, p := range c.pairs {
		config.Certificates = append(config.Certificates, *p.cert.Load())
	}
	if v := t.Validation; v != nil {
		f, err := c.verifier(v)
		if err != nil {
			return nil, err
		}
		if t.VerifySNI && f.roots == nil && !v.Untrusted {
			return nil, errors.New("auto_sni_san_validation: there is no trusted_ca: anybody could claim the name")
		}
		b.verifier = f
	}
	b.config = config
	if c.peer == Server {
		config.InsecureSkipVerify = true // VerifyConnection does it, by the validation context
		config.ClientSessionCache = tls.NewLRUClientSessionCache(sessions)
		return b, nil
	}
	config.NextProtos = c.alpn
	config.SessionTicketsDisabled = t.NoTickets
	config.WrapSession = c.tickets.EncryptTicket
	config.UnwrapSession = c.tickets.DecryptTicket
	switch {
	case t.RequireClient:
		config.ClientAuth = tls.RequireAnyClientCert
	case b.verifier != nil:
		config.ClientAuth = tls.RequestClientCert
	}
	if f := b.verifier; f != nil {
		config.ClientCAs = f.roots // told to callers, so that they choose the right certificate
		config.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return nil // ClientAuth says whether that will do
			}
			return f.Verify(state)
		}
	}
	b.bare = config.Clone()
	b.bare.NextProtos = nil
	return b, nil
}

func (c *Context) verifier(v *snapshot.Validation) (*Verifier, error) {
	if c.roots == nil {
		return newVerifier(v, c.peer, nil)
	}
	return newVerifier(v, c.peer, c.roots.pool.Load())
}
