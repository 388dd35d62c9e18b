package statsapp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// reply is one whole answer: small enough to be built before it is sent, so
// that its length is known.
type reply struct {
	status      int
	contentType string
	body        []byte
	chunked     bool // leave the length out
}

func jsonReply(status int, v any) reply {
	body, err := json.Marshal(v)
	if err != nil { // every v is a struct of ours made of numbers, strings and maps
		return reply{status: http.StatusInternalServerError, contentType: "text/plain; charset=utf-8", body: []byte(err.Error())}
	}
	return reply{status: status, contentType: "application/json", body: append(body, '\n')}
}

// errorReply answers with {"error":{"field":…,"reason":…}}.
func errorReply(status int, field, reason string) reply {
	type body struct {
		Field  string `json:"field,omitempty"`
		Reason string `json:"reason"`
	}
	return jsonReply(status, map[string]body{"error": {field, reason}})
}

// refuse turns an error of a handler into its reply.
func refuse(err error) reply {
	if e, ok := errors.AsType[*QueryError](err); ok {
		status := http.StatusBadRequest
		if e.Unknown {
			status = http.StatusNotFound
		}
		return errorReply(status, e.Field, e.Reason)
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errorReply(http.StatusRequestEntityTooLarge, "body", fmt.Sprintf("longer than %d bytes; send less at a time", e.Limit))
	}
	return errorReply(http.StatusBadRequest, "body", err.Error())
}

func (p reply) head(w http.ResponseWriter) {
	w.Header().Set("Content-Type", p.contentType)
	if !p.chunked {
		w.Header().Set("Content-Length", strconv.Itoa(len(p.body)))
	}
	w.WriteHeader(p.status)
}

func (p reply) send(w http.ResponseWriter) {
	p.head(w)
	_, _ = w.Write(p.body) // fails when the caller is gone: nobody is left to tell
}

// sendHalf announces the whole body, sends half of it and aborts.
func (p reply) sendHalf(w http.ResponseWriter) {
	p.head(w)
	_, _ = w.Write(p.body[:len(p.body)/2])
	_ = http.NewResponseController(w).Flush() // the abort follows in any case
	panic(http.ErrAbortHandler)
}

// answer counts a request of tenant and sends what build returns, unless a
// fault is due. build is not called when nothing of its reply would be sent.
func (a *App) answer(w http.ResponseWriter, r *http.Request, tenant string, build func() reply) {
	if tenant != "" {
		a.counters.request(tenant)
	}
	f, hit := a.faults.draw(tenant)
	if hit && !a.spoil(w, r, tenant, f) {
		return
	}
	if hit && f.Kind == Partial {
		build().sendHalf(w)
	}
	build().send(w)
}

// spoil lets f happen to a request, but for the cut of Partial: that is for the
// caller to make. It returns false when the request has its answer.
func (a *App) spoil(w http.ResponseWriter, r *http.Request, tenant string, f Fault) bool {
	if !f.wait(r.Context()) {
		panic(http.ErrAbortHandler)
	}
	switch f.Kind {
	case Error:
		errorReply(f.status(), "", "fault error is switched on for tenant "+tenant).send(w)
		return false
	case Hang:
		// Over HTTP/1.1 net/http notices that the caller left only once the body
		// is read.
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case Reset:
		panic(http.ErrAbortHandler)
	default:
		return true
	}
}
