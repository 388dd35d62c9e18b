package statsapp

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/http"
)

// maxReported bounds the rejected lines that a reply lists.
const maxReported = 100

// ingested is the reply to a batch of events.
type ingested struct {
	Accepted int        `json:"accepted"`
	Rejected int        `json:"rejected"`
	Errors   []badEvent `json:"errors,omitempty"` // the first 100
}

// badEvent is one line that was not taken.
type badEvent struct {
	Line   int    `json:"line"` // from 1
	Reason string `json:"reason"`
}

func (b *ingested) reject(line int, reason string) {
	b.Rejected++
	if len(b.Errors) < maxReported {
		b.Errors = append(b.Errors, badEvent{line, reason})
	}
}

// serveEvents takes one JSON object a line. Every good line is kept whatever the
// others are; the status is 400 only when no line was good.
func (a *App) serveEvents(w http.ResponseWriter, r *http.Request) {
	tenant := cmp.Or(headerTenant(r), r.URL.Query().Get("tenant"))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.opt.MaxBody))
	if err != nil {
		a.answer(w, r, tenant, func() reply { return refuse(err) })
		return
	}
	batch := a.decodeBatch(body)
	for _, e := range batch.events {
		tenant = cmp.Or(tenant, e.Tenant)
	}
	a.answer(w, r, tenant, func() reply { return a.ingest(batch) })
}

// batch is a request's lines, decoded but not stored.
type batch struct {
	events  []Event
	lines   []int // of events, by index
	refused []*refusal
	at      []int // lines of refused, by index
}

func (a *App) decodeBatch(body []byte) *batch {
	b := new(batch)
	n := 0
	for line := range bytes.Lines(body) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		e, bad := Event{}, &refusal{refusedLimit, fmt.Sprintf("longer than %d bytes", a.opt.MaxLine)}
		if len(line) <= a.opt.MaxLine {
			e, bad = a.schemas.decode(line)
		}
		if bad != nil {
			b.refused, b.at = append(b.refused, bad), append(b.at, n)
			continue
		}
		b.events, b.lines = append(b.events, e), append(b.lines, n)
	}
	return b
}

// ingest stores a batch and counts what became of it.
func (a *App) ingest(b *batch) reply {
	if len(b.events)+len(b.refused) == 0 {
		return errorReply(http.StatusBadRequest, "body", "no events; send one JSON object a line")
	}
	var out ingested
	next := 0 // rejections are listed in order of their lines
	report := func(before int) {
		for ; next < len(b.at) && b.at[next] < before; next++ {
			a.counters.reject(b.refused[next].class)
			out.reject(b.at[next], b.refused[next].reason)
		}
	}
	for i, e := range b.events {
		report(b.lines[i])
		if err := a.store.add(e); err != nil {
			a.counters.reject(refusedLimit)
			out.reject(b.lines[i], err.Error())
			continue
		}
		out.Accepted++
	}
	report(int(^uint(0) >> 1))
	a.counters.accepted.Add(int64(out.Accepted))
	if out.Accepted == 0 {
		return jsonReply(http.StatusBadRequest, out)
	}
	return jsonReply(http.StatusOK, out)
}
