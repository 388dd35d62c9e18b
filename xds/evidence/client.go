package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	modelv1 "github.com/quadnine/quadnine/xds/api/quadnine/model/v1"
)

// Options are what a client needs to know.
type Options struct {
	Target      string                           // host:port of the server
	Credentials credentials.TransportCredentials // nil: plain text
	Node        string                           // who reports
	Every       time.Duration                    // how often; 0: every second

	// Report returns the trials, as they are now, and Blocked what is blocked here.
	Report  func() []Trial
	Blocked func() []Version
	// Decided is told what the server says of versions: those of the last report,
	// and those that are blocked.
	Decided func([]Verdict)
	// Connected is told whether there is a server that answers: true with its
	// first answer, false when the stream is over or a report is not answered.
	Connected func(bool)
	Log       *slog.Logger

	// Dial opens connections in the place of the network; nil uses Target.
	Dial func(ctx context.Context, target string) (net.Conn, error)
}

// Client reports to a server. Make one with New.
type Client struct {
	o           Options
	incarnation uint64
	sequence    uint64
	nudge       chan struct{}
}

const (
	patience     = 5 * time.Second // for an answer, and for a connection
	firstWait    = time.Second     // before the next try; doubled up to mostWait
	mostWait     = 30 * time.Second
	maxMessage   = 16 << 20
	keepaliveGap = 10 * time.Second
)

// New returns a client that does nothing until Run.
func New(o Options) *Client {
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{o: o, incarnation: rand.Uint64(), nudge: make(chan struct{}, 1)}
}

// Nudge has the next report sent at once: a canary was taken back here.
func (c *Client) Nudge() {
	select {
	case c.nudge <- struct{}{}:
	default:
	}
}

// Run reports until ctx is over. A server that cannot be reached is tried again.
func (c *Client) Run(ctx context.Context) {
	wait := firstWait
	for ctx.Err() == nil {
		answered, err := c.stream(ctx)
		c.o.Connected(false)
		if ctx.Err() != nil {
			return
		}
		if answered {
			wait = firstWait
		}
		c.o.Log.Warn("the pool of judges cannot be reached: canaries are judged here alone", "server", c.o.Target, "err", err, "again_in", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, mostWait)
	}
}

// stream runs one stream to its end and reports whether the server answered.
func (c *Client) stream(ctx context.Context) (answered bool, err error) {
	creds := c.o.Credentials
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	dial := c.o.Dial
	if dial == nil {
		dial = func(ctx context.Context, target string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", target)
		}
	}
	conn, err := grpc.NewClient("passthrough:///"+c.o.Target, grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: grpcbackoff.DefaultConfig, MinConnectTimeout: patience}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveGap, Timeout: patience}),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
	)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }() // nothing of it is used any more
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := modelv1.NewEvidenceServiceClient(conn).StreamEvidence(ctx)
	if err != nil {
		return false, err
	}
	in, ended := make(chan *modelv1.StreamEvidenceResponse), make(chan error, 1)
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case in <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(c.o.Every)
	defer tick.Stop()
	deaf := time.NewTimer(2 * patience) // the first answer waits for the connection as well
	defer deaf.Stop()
	unanswered := uint64(0)
	blocked := c.o.Blocked()
	report := func() error {
		if unanswered != 0 { // one at a time: the next one says all that this would
			return nil
		}
		c.sequence++
		unanswered = c.sequence
		if conn.GetState() == connectivity.Ready {
			deaf.Reset(patience)
		}
		m := &modelv1.StreamEvidenceRequest{Node: c.o.Node, Incarnation: c.incarnation, Sequence: c.sequence, Trials: encode(c.o.Report())}
		for _, v := range blocked {
			m.Blocked = append(m.Blocked, v.encode())
		}
		blocked = nil
		err := stream.Send(m)
		for errors.Is(err, io.EOF) { // the stream is over: why, is for its reader to know
			select {
			case err = <-ended:
				return fmt.Errorf("the stream ended: %w", err)
			case <-in:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return err
	}
	if err := report(); err != nil {
		return false, errors.Join(err, context.Cause(ctx))
	}
	for {
		select {
		case <-ctx.Done():
			return answered, context.Cause(ctx)
		case err := <-ended:
			return answered, err
		case <-deaf.C:
			if unanswered != 0 {
				return answered, fmt.Errorf("a report was not answered within %v", patience)
			}
		case <-tick.C:
			if err := report(); err != nil {
				return answered, err
			}
		case <-c.nudge:
			if unanswered != 0 { // it may have been made before what there is to tell
				c.Nudge()
				select { // not in a circle
				case r := <-in:
					answered, unanswered = c.take(r, answered, unanswered)
				case err := <-ended:
					return answered, err
				case <-deaf.C:
					return answered, fmt.Errorf("a report was not answered within %v", patience)
				case <-ctx.Done():
				}
				continue
			}
			if err := report(); err != nil {
				return answered, err
			}
		case r := <-in:
			answered, unanswered = c.take(r, answered, unanswered)
		}
	}
}

// take hands an answer over.
func (c *Client) take(r *modelv1.StreamEvidenceResponse, answered bool, unanswered uint64) (bool, uint64) {
	if !answered {
		c.o.Connected(true)
		c.o.Log.Info("canaries are judged together with other sidecars", "server", c.o.Target)
	}
	if r.GetSequence() == unanswered {
		unanswered = 0
	}
	c.o.Decided(decode(r.GetVerdicts()))
	return true, unanswered
}
