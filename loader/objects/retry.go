package objects

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	attempts   = 5                      // without progress, of one request
	retryFirst = 200 * time.Millisecond // doubled up to retryMost, half of it drawn
	retryMost  = 5 * time.Second
)

var errStalled = errors.New("the server stalls")

// localError is what this machine's disk says: asking the bucket again is no help.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

// try runs f until it succeeds, fails for good, or has failed attempts times
// without progress.
func (b *Bucket) try(ctx context.Context, operation string, f func() (progress bool, err error)) error {
	for n := 1; ; n++ {
		progress, err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b.opts.Failed(operation)
		if progress {
			n = 1
		}
		switch again := passing(err); {
		case !again:
			return b.explain(err)
		case n == attempts:
			return fmt.Errorf("given up after %d attempts: %w", n, b.explain(err))
		}
		wait := min(retryFirst<<(n-1), retryMost)
		t := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// passing reports whether a request that failed may succeed when it is sent again.
func passing(err error) bool {
	if _, ok := errors.AsType[*localError](err); ok {
		return false
	}
	r, ok := errors.AsType[minio.ErrorResponse](err)
	if !ok || r.StatusCode == 0 {
		return true // the network's
	}
	return r.StatusCode >= 500 && r.StatusCode != http.StatusNotImplemented || r.StatusCode == http.StatusTooManyRequests || r.StatusCode == http.StatusRequestTimeout
}

// explain says what to do about what a server answered.
func (b *Bucket) explain(err error) error {
	r, ok := errors.AsType[minio.ErrorResponse](err)
	if !ok {
		return err
	}
	advice := ""
	switch r.Code {
	case minio.NoSuchBucket:
		advice = "there is no such bucket: make it, or correct the URL or its endpoint"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidTokenId", "ExpiredToken", minio.AccessDenied:
		b.creds.Expire() // a file may hold new ones by now
		advice = "check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE in ~/.aws/credentials) and what they allow"
		if v, e := b.creds.GetWithContext(nil); e != nil || v.AccessKeyID == "" {
			advice = "no credentials were found in AWS_ACCESS_KEY_ID nor in ~/.aws/credentials, and the bucket is not public"
		}
	case minio.PreconditionFailed:
		advice = "the object was replaced while it was read; it is looked at again"
	}
	if advice == "" {
		return err
	}
	return fmt.Errorf("%s (status %d, %s): %w", advice, r.StatusCode, r.Code, err)
}
