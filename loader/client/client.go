package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine/loader/wire"
)

// Errors that callers tell apart.
var (
	ErrNoVersion = errors.New("no version of the model is active")
	ErrRevoked   = errors.New("lease revoked")
	ErrClosed    = errors.New("client closed")
	ErrRefused   = errors.New("refused by the sidecar")
)

const (
	againFirst = 50 * time.Millisecond // after a lost connection, doubled up to againMost until one lasts for that long
	againMost  = 5 * time.Second
)

// Client shares one model. Make one with Open.
type Client struct {
	socket, model string

	current atomic.Pointer[published]
	first   chan struct{} // closed when the first version answers
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	err    error                 // guarded by mu; why there is no connection
	mapped map[*version]struct{} // guarded by mu; all that take addresses
}

// published is what leases are taken from: one value, replaced as a whole.
type published struct {
	active, canary *version
	share          uint64 // of 1<<32 draws, for the canary
}

// Open attaches to the sidecar that serves socket and returns when a version of
// the model answers, or with why none does when ctx ends. A sidecar that is not
// there yet is waited for.
func Open(ctx context.Context, socket, model string) (*Client, error) {
	c := &Client{socket: socket, model: model, first: make(chan struct{}), mapped: make(map[*version]struct{})}
	c.current.Store(new(published))
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	c.wg.Go(func() { c.run(run) })
	select {
	case <-c.first:
		return c, nil
	case <-ctx.Done():
		err := errors.Join(c.Err(), c.Close())
		return nil, fmt.Errorf("client: model %s by %s: %w", model, socket, errors.Join(context.Cause(ctx), err))
	}
}

// Close ends the connection and unmaps everything. Leases that are out are
// revoked; their addresses stay reserved until they are released.
func (c *Client) Close() error {
	c.stop()
	c.wg.Wait()
	return nil
}

// Err returns why the sidecar cannot be reached at the moment, or nil. The last
// version goes on answering meanwhile.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Client) setErr(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// Acquire takes a lease on the version that draw, a uniform number, falls to: the
// canary gets its share of the draws. The same draw falls to the same version as
// long as versions and share stay, in the sidecar as well as here.
func (c *Client) Acquire(draw uint64) (Lease, error) {
	for {
		p := c.current.Load()
		l := Lease{p.active, Active}
		if p.canary != nil && draw>>32 < p.share {
			l = Lease{p.canary, Canary}
		}
		if l.v != nil && l.v.acquire() {
			return l, nil
		}
		if c.current.Load() == p { // it has none, or this client is closed
			return Lease{}, fmt.Errorf("client: %s: %w", c.model, ErrNoVersion)
		}
	}
}

// run attaches, and attaches again, until ctx ends.
func (c *Client) run(ctx context.Context) {
	again := againFirst
	for ctx.Err() == nil {
		lasted := time.NewTimer(againMost)
		attached, err := c.attach(ctx)
		c.setErr(err)
		select {
		case <-lasted.C:
			if attached {
				again = againFirst
			}
		default: // who is cut off again and again must not come back twenty times a second
			lasted.Stop()
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
		again = min(2*again, againMost)
	}
	c.setErr(ErrClosed)
	c.current.Store(new(published))
	c.mu.Lock()
	left := slices.Collect(maps.Keys(c.mapped))
	c.mu.Unlock()
	for _, v := range left { // also what an earlier connection brought and a lease still holds
		v.revoke()
		v.drop()
	}
}

// note keeps account of what is mapped.
func (c *Client) note(v *version, mapped bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if mapped {
		c.mapped[v] = struct{}{}
	} else {
		delete(c.mapped, v)
	}
}

// versions returns those of p.
func (p *published) versions() (out []*version) {
	for _, v := range []*version{p.active, p.canary} {
		if v != nil {
			out = append(out, v)
		}
	}
	return out
}

// attach serves one connection until it ends.
func (c *Client) attach(ctx context.Context) (attached bool, err error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return false, err
	}
	conn := wire.NewConn(nc.(*net.UnixConn)) //nolint:forcetypeassert // what dialing "unix" gives
	end := context.AfterFunc(ctx, func() { nc.Close() })
	defer end()
	s := newSession(c, conn)
	return s.run(ctx)
}

// publish shows readers what answers now. What an earlier connection has brought
// nobody will ask back: it is let go of.
func (c *Client) publish(s *session, next *published) {
	old := c.current.Swap(next)
	for _, v := range old.versions() {
		if v.session != s {
			v.drop()
		}
	}
	if next.active == nil {
		return
	}
	select {
	case <-c.first:
	default:
		close(c.first)
	}
}
