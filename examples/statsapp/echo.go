package statsapp

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Trailers of an echo, when asked for.
const (
	trailerBytes  = "X-Echo-Bytes"
	trailerSHA256 = "X-Echo-Sha256"
)

// serveEcho answers with the request's body and content type. The body is read
// whole first, as ordinary services do; ?stream=1 sends each piece back as it
// comes, without a bound. Trailers carry what was received.
func (a *App) serveEcho(w http.ResponseWriter, r *http.Request) {
	params := r.URL.Query()
	tenant := cmp.Or(headerTenant(r), params.Get("tenant"))
	trailers := params.Get("trailers") == "1" || acceptsTrailers(r)
	if params.Get("stream") == "1" {
		a.streamEcho(w, r, tenant, trailers)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.opt.MaxBody))
	if err != nil {
		a.answer(w, r, tenant, func() reply { return refuse(err) })
		return
	}
	if trailers {
		h := sha256.Sum256(body)
		announceTrailers(w)
		defer setTrailers(w, int64(len(body)), h[:])
	}
	a.answer(w, r, tenant, func() reply {
		return reply{
			status:      http.StatusOK,
			contentType: echoType(r),
			body:        body,
			chunked:     trailers && r.ProtoMajor == 1, // HTTP/1.1 has trailers in chunked bodies only (RFC 9112 section 7.1.2)
		}
	})
}

// streamEcho answers while the request is still being read.
func (a *App) streamEcho(w http.ResponseWriter, r *http.Request, tenant string, trailers bool) {
	if tenant != "" {
		a.counters.request(tenant)
	}
	f, hit := a.faults.draw(tenant)
	if hit && !a.spoil(w, r, tenant, f) {
		return
	}
	if r.ProtoMajor == 1 {
		// Only now: net/http (1.26) loses the connection when a handler with full
		// duplex returns before it has read the body.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			errorReply(http.StatusInternalServerError, "stream", err.Error()).send(w)
			return
		}
	}
	cut := hit && f.Kind == Partial
	src := io.Reader(r.Body)
	if cut {
		src = io.LimitReader(src, max(r.ContentLength, 2)/2)
	}
	w.Header().Set("Content-Type", echoType(r))
	if trailers {
		announceTrailers(w)
	} else if r.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	h := sha256.New()
	n, err := copyFlushing(io.MultiWriter(w, h), src, http.NewResponseController(w))
	if err != nil || cut {
		panic(http.ErrAbortHandler) // the caller must not take a cut echo for a whole one
	}
	if trailers {
		setTrailers(w, n, h.Sum(nil))
	}
}

// copyFlushing copies piece by piece: what has come is sent before more is read.
func copyFlushing(dst io.Writer, src io.Reader, out *http.ResponseController) (n int64, err error) {
	if err := out.Flush(); err != nil {
		return 0, fmt.Errorf("statsapp: echo: send header: %w", err)
	}
	buf := make([]byte, 32<<10)
	for {
		m, readErr := src.Read(buf)
		if m > 0 {
			n += int64(m)
			if _, err := dst.Write(buf[:m]); err != nil {
				return n, fmt.Errorf("statsapp: echo: send byte %d: %w", n, err)
			}
			if err := out.Flush(); err != nil {
				return n, fmt.Errorf("statsapp: echo: send byte %d: %w", n, err)
			}
		}
		if readErr == io.EOF {
			return n, nil
		}
		if readErr != nil {
			return n, fmt.Errorf("statsapp: echo: receive byte %d: %w", n, readErr)
		}
	}
}

func echoType(r *http.Request) string {
	return cmp.Or(r.Header.Get("Content-Type"), "application/octet-stream")
}

// acceptsTrailers reports whether TE lists "trailers" (RFC 9110 section 10.1.4).
func acceptsTrailers(r *http.Request) bool {
	for _, v := range r.Header.Values("Te") {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), "trailers") {
				return true
			}
		}
	}
	return false
}

func announceTrailers(w http.ResponseWriter) {
	w.Header().Add("Trailer", trailerBytes)
	w.Header().Add("Trailer", trailerSHA256)
}

func setTrailers(w http.ResponseWriter, n int64, sum []byte) {
	w.Header().Set(trailerBytes, strconv.FormatInt(n, 10))
	w.Header().Set(trailerSHA256, hex.EncodeToString(sum))
}
