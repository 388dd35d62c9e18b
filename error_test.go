package quadnine

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestErrorText(t *testing.T) {
	key := Key{Tenant: "acme", Metric: "cpu"}
	for want, e := range map[string]*Error{
		"local: internal":                            {},
		"upstream dial: EOF":                         {Origin: Upstream, Op: "dial", Err: io.EOF},
		"upstream response: upstream-5xx (acme/cpu)": {Code: BadGateway, Origin: Upstream, Op: "response", Reason: "upstream-5xx", Key: key},
		"downstream head: header-too-large":          {Code: TooLarge, Origin: Downstream, Op: "head"},
		"downstream decode: bad-request (_other/)":   {Code: BadRequest, Origin: Downstream, Op: "decode", Key: Key{Tenant: OtherTenant}},
		"upstream dial: EOF (acme/cpu)":              {Origin: Upstream, Op: "dial", Reason: "not shown beside a cause", Err: io.EOF, Key: key},
		"local: dial: no route: unexpected EOF (/x)": {Err: fmt.Errorf("dial: no route: %w", io.ErrUnexpectedEOF), Key: Key{Metric: "x"}},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWhyFallsBackOnTheCode(t *testing.T) {
	if got := (&Error{Code: Timeout}).Why(); got != "timeout" {
		t.Errorf("%q, want the code", got)
	}
	if got := (&Error{Code: Timeout, Reason: "upstream-timeout"}).Why(); got != "upstream-timeout" {
		t.Errorf("%q, want the reason", got)
	}
}

// TestCodes pins what stands in headers, metrics and dashboards, and the status
// that callers see.
func TestCodes(t *testing.T) {
	type row struct {
		name                        string
		local, downstream, upstream int
	}
	want := []row{
		Internal:      {"internal", 500, 500, 500},
		BadRequest:    {"bad-request", 400, 400, 400},
		TooLarge:      {"header-too-large", 431, 431, 431},
		NotFound:      {"not-found", 404, 404, 404},
		Timeout:       {"timeout", 504, 408, 504},
		Unavailable:   {"unavailable", 503, 503, 503},
		BadGateway:    {"bad-gateway", 502, 502, 502},
		Canceled:      {"canceled", 500, 500, 500}, // nobody is left to see it
		Unsupported:   {"unsupported", 501, 501, 501},
		BodyTooLarge:  {"body-too-large", 413, 413, 413},
		Unprocessable: {"unprocessable", 422, 422, 422},
	}
	if len(want) != len(codeNames) {
		t.Fatalf("%d codes tested of %d", len(want), len(codeNames))
	}
	for i, w := range want {
		c := Code(i)
		got := row{c.String(), c.Status(Local), c.Status(Downstream), c.Status(Upstream)}
		if got != w {
			t.Errorf("code %d: %+v, want %+v", i, got, w)
		}
	}
	if s := Code(len(want)).String(); s != "unknown" {
		t.Errorf("a code without a name is %q", s)
	}
}

func TestOrigins(t *testing.T) {
	for o, want := range map[Origin]string{Local: "local", Downstream: "downstream", Upstream: "upstream", 99: "local"} {
		if got := o.String(); got != want {
			t.Errorf("origin %d: %q, want %q", o, got, want)
		}
	}
}

func TestErrorsUnwrap(t *testing.T) {
	e := &Error{Code: Unavailable, Origin: Upstream, Err: io.EOF}
	wrapped := fmt.Errorf("exchange 7: %w", e)
	if !errors.Is(wrapped, io.EOF) {
		t.Error("the cause is hidden")
	}
	for _, c := range []struct {
		err  error
		want Code
	}{{e, Unavailable}, {wrapped, Unavailable}, {io.EOF, Internal}, {nil, Internal}} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("CodeOf(%v) = %v, want %v", c.err, got, c.want)
		}
	}
}
