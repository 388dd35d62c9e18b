package objects

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// maxKeys bounds what is read of a bucket's list: beyond it the prefix holds
// something else than drops.
const maxKeys = 100_000

// Options say how a Bucket works. The zero value is usable.
type Options struct {
	Getenv func(string) string // default os.Getenv
	// Dial opens connections; default a net.Dialer with a time limit.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Moved is told of bytes that were received or sent, Failed of each request that
	// failed, with what it was for: list, get, put. Both may be called from several
	// goroutines at once.
	Moved  func(received, sent int64)
	Failed func(operation string)
	Stall  time.Duration // a body without progress for this long is given up and asked for again; default 30 s
}

// Bucket is a place for drops in object storage. Make one with Open.
type Bucket struct {
	at        address
	core      minio.Core
	creds     *credentials.Credentials
	transport *http.Transport
	opts      Options

	mu       sync.Mutex
	verified map[string]string // guarded by mu; etags of objects that were read back whole, by key
}

// Open describes the bucket at url: s3://BUCKET/PREFIX, with the parameters
// endpoint, region and addressing. It sends nothing yet.
//
// Credentials are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN,
// else those of AWS_PROFILE in AWS_SHARED_CREDENTIALS_FILE (default
// ~/.aws/credentials); without any, requests are anonymous.
func Open(url string, o Options) (*Bucket, error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	if o.Moved == nil {
		o.Moved = func(_, _ int64) {}
	}
	if o.Failed == nil {
		o.Failed = func(string) {}
	}
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	at, err := parseURL(url, o.Getenv)
	if err != nil {
		return nil, err
	}
	b := &Bucket{at: at, opts: o, verified: make(map[string]string)}
	b.creds = credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}})
	b.transport = &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: o.Dial, DisableCompression: true, // objects are stored as they are
		MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: o.Stall,
	}
	lookup := map[string]minio.BucketLookupType{"auto": minio.BucketLookupAuto, "path": minio.BucketLookupPath, "virtual": minio.BucketLookupDNS}[at.addressing]
	core, err := minio.NewCore(at.endpoint, &minio.Options{
		Creds: b.creds, Secure: at.secure, Region: at.region, BucketLookup: lookup, Transport: b.transport, MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", &at, err)
	}
	b.core = *core
	return b, nil
}

// String returns where the bucket is, without parameters, ending in a slash.
func (b *Bucket) String() string { return b.at.String() }

// Close closes the connections that are idle.
func (b *Bucket) Close() { b.transport.CloseIdleConnections() }

// object is one key of the list.
type object struct {
	key      string // with the prefix
	size     int64
	etag     string
	modified time.Time
}

// list returns all objects below the bucket's prefix.
func (b *Bucket) list(ctx context.Context) ([]object, error) { return b.listBelow(ctx, b.at.prefix) }

func (b *Bucket) listBelow(ctx context.Context, prefix string) (out []object, err error) {
	err = b.try(ctx, "list", func() (bool, error) {
		out = out[:0]
		ctx, stop := context.WithCancel(ctx) // ends the lister when we do not read on
		defer stop()
		for o := range b.core.Client.ListObjects(ctx, b.at.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
			if o.Err != nil {
				return false, o.Err
			}
			if len(out) == maxKeys {
				return false, fmt.Errorf("has more than %d objects: give models a prefix of their own", maxKeys)
			}
			out = append(out, object{o.Key, o.Size, o.ETag, o.LastModified})
		}
		return false, ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("%s: list: %w", b, err)
	}
	return out, nil
}

// read writes the first n bytes of an object to w, as it was listed: one that was
// replaced meanwhile is an error. What was cut off is asked for again from there.
func (b *Bucket) read(ctx context.Context, o object, n int64, w io.Writer) error {
	at := int64(0)
	err := b.try(ctx, "get", func() (progress bool, err error) {
		if at == n {
			return false, nil
		}
		before := at
		err = b.readFrom(ctx, o, &at, n, w)
		return at > before, err
	})
	if err != nil {
		return fmt.Errorf("s3://%s/%s: %d of %d bytes read: %w", b.at.bucket, o.key, at, n, err)
	}
	return nil
}

func (b *Bucket) readFrom(ctx context.Context, o object, at *int64, n int64, w io.Writer) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	stalled := time.AfterFunc(b.opts.Stall, func() { stop(fmt.Errorf("no byte came for %v: %w", b.opts.Stall, errStalled)) })
	defer stalled.Stop()
	var opts minio.GetObjectOptions
	if err := opts.SetMatchETag(o.etag); err != nil {
		return err
	}
	if *at > 0 || n < o.size {
		if err := opts.SetRange(*at, n-1); err != nil {
			return err
		}
	}
	body, _, header, err := b.core.GetObject(ctx, b.at.bucket, o.key, opts)
	if err != nil {
		return because(ctx, err)
	}
	defer body.Close()
	if got, want := header.Get("Content-Range"), fmt.Sprintf("bytes %d-", *at); *at > 0 && !strings.HasPrefix(got, want) {
		return fmt.Errorf("asked for %s%d, got the range %q", want, n-1, got)
	}
	buf := make([]byte, 64<<10)
	for *at < n {
		m, err := body.Read(buf[:min(int64(len(buf)), n-*at)])
		if m > 0 {
			stalled.Reset(b.opts.Stall)
			if _, err := w.Write(buf[:m]); err != nil {
				return &localError{err}
			}
			*at += int64(m)
			b.opts.Moved(int64(m), 0)
		}
		if *at < n && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return because(ctx, err)
		}
	}
	return nil
}

// because returns why ctx ended, when that is what err comes of.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// write stores size bytes of r under a key below the prefix. The server checks the
// digest of what it got.
func (b *Bucket) write(ctx context.Context, key string, r io.ReadSeeker, size int64) error {
	err := b.try(ctx, "put", func() (bool, error) {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return false, &localError{err}
		}
		info, err := b.core.Client.PutObject(ctx, b.at.bucket, b.at.prefix+key, counted{r, b.opts.Moved}, size, minio.PutObjectOptions{
			SendContentMd5: true, ContentType: "application/octet-stream", PartSize: partSize,
		})
		if err == nil && info.Size != size {
			err = fmt.Errorf("the server took %d of %d bytes", info.Size, size)
		}
		return false, err
	})
	if err != nil {
		return fmt.Errorf("%s%s: put: %w", b, key, err)
	}
	return nil
}

// partSize is what an upload of a large file is cut into. A part is in memory
// while it is sent.
const partSize = 16 << 20

// counted tells of the bytes that are read to be sent.
type counted struct {
	io.Reader
	moved func(received, sent int64)
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.moved(0, int64(n))
	return n, err
}
