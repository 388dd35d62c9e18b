package snapshot

import (
	"reflect"
	"strings"
	"testing"
)

// TestFormatsAreTakenAsEnvoyDoes: Envoy 1.40 took and refused the same ones.
func TestFormatsAreTakenAsEnvoyDoes(t *testing.T) {
	lit := func(s string) FormatPart { return FormatPart{Literal: s} }
	req := func(name, alt string, limit int) FormatPart {
		return FormatPart{Op: OpReq, Name: name, Alt: alt, Max: limit}
	}
	protocol := FormatPart{Op: OpProtocol}
	at := func(layout string) FormatPart { return FormatPart{Op: OpStartTime, Name: layout} }
	for s, want := range map[string]Format{
		"": nil, "abc\n": {lit("abc\n")}, "%%": {lit("%")}, "a%%b": {lit("a%b")},
		"%REQ(A)%": {req("a", "", 0)}, "%REQ(A?B)%": {req("a", "b", 0)}, "%REQ(A):5%": {req("a", "", 5)}, "%REQ(?B)%": {req("", "b", 0)},
		"%REQ(A?)%": {req("a", "", 0)}, "%REQ(:PATH)%": {req(":path", "", 0)}, "%REQ(A):0%": nil, "%REQ(A):010%": {req("a", "", 10)},
		"%REQ(A)%%REQ(B)%": {req("a", "", 0), req("b", "", 0)}, "%REQ(A)%:5": {req("a", "", 0), lit(":5")},
		"%PROTOCOL%": {protocol}, "%PROTOCOL()%": {protocol}, "x%PROTOCOL%y": {lit("x"), protocol, lit("y")},
		"%START_TIME%": {at(DefaultTimeLayout)}, "%START_TIME()%": {at(DefaultTimeLayout)}, "%START_TIME(%s.%3f)%": {at("%s.%3f")},
		"%START_TIME(%Y%%)%": {at("%Y%%")}, "%START_TIME(a)b)%": {at("a)b")}, "%START_TIME(%E3n)%": {at("%E3n")},
		"%UPSTREAM_CLUSTER_RAW%": {{Op: OpUpstreamCluster}}, "%TRAILER(X?Y):3%": {{Op: OpTrailer, Name: "x", Alt: "y", Max: 3}},
		"%DYNAMIC_METADATA(a:b)%": {{Op: OpEmpty}}, "%DOWNSTREAM_PEER_URI_SAN%": {{Op: OpEmpty}}, "%DOWNSTREAM_PEER_CERT_V_START(%Y)%": {{Op: OpEmpty}},
		"%RESPONSE_CODE_DETAILS(x)%": {{Op: OpResponseCodeDetails}}, "%HOSTNAME%": {{Op: OpHostname}},
	} {
		if got, err := ParseFormat(s); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v\nwant %+v", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"%": `byte 0: "%" is no operator`, "a%b": `byte 1: "%b"`, "%REQ%": "needs something", "%REQ()%": "needs something", "%REQ(A)": "is no operator",
		"%REQ(A?B?C)%": "more than one", "%REQ(A):%": "is no operator", "%REQ(A):x%": "is no operator", "%REQ(A): 5%": "is no operator",
		"%REQ(A):99999999999999999999999%": "too large", "%REQ(a b)%": "cannot be a field", "%REQ(A)B)%": "cannot be a field",
		"%REQ(X-Ü)%": "cannot be a field", "%REQ(A\nB)%": "is no operator", "%req(A)%": "is no operator",
		"%PROTOCOL(x)%": "takes nothing", "%PROTOCOL:3%": "takes no length", "%DURATION:5%": "takes no length", "%ROUTE_NAME():3%": "takes no length",
		"%START_TIME(%n)%": "breaks the line", "%START_TIME(%f%%n)%": "breaks the line", "%START_TIME:3%": "takes no length", "%START_TIME(": "is no operator",
		"12 %NOPE%": "byte 3: %NOPE% is not supported", "%NOPE(x)%": "%NOPE% is not supported", "%%%": "byte 2", "%%PROTOCOL%": "byte 10", "%PROTOCOL%%": "byte 10",
		"%DYNAMIC_METADATA%": "needs something", "%REQUESTED_SERVER_NAME(x)%": "takes nothing",
	} {
		if got, err := ParseFormat(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, error %v, want %q in it", s, got, err, want)
		}
	}
}

func TestTheDefaultFormatHasNoSurprise(t *testing.T) {
	f, err := ParseFormat(DefaultAccessLogFormat)
	if err != nil {
		t.Fatal(err)
	}
	var ops []Operator
	for _, p := range f {
		if p.Op != OpLiteral {
			ops = append(ops, p.Op)
		}
	}
	want := []Operator{
		OpStartTime, OpReq, OpReq, OpProtocol, OpResponseCode, OpResponseFlags, OpBytesReceived, OpBytesSent, OpDuration,
		OpResp, OpReq, OpReq, OpReq, OpReq, OpUpstreamHost,
	}
	if !reflect.DeepEqual(ops, want) {
		t.Errorf("operators %v, want %v", ops, want)
	}
}

// FuzzParseFormat: what is literal comes back, and no operator is made up.
func FuzzParseFormat(f *testing.F) {
	for _, s := range []string{DefaultAccessLogFormat, "%REQ(A?B):5%%%x", "%START_TIME(%s.%3f)%", "%", "%REQ(A)B):0%", "%A%B%", "%%%", "%REQ(A\nB)%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseFormat(s)
		if err != nil {
			if got != nil {
				t.Errorf("%q: both a format and %v", s, err)
			}
			return
		}
		size, literals := 0, 0
		for i, p := range got {
			size += len(p.Literal) + len(p.Name) + len(p.Alt)
			if p.Op == OpStartTime && p.Name == DefaultTimeLayout {
				size -= len(DefaultTimeLayout)
			}
			if p.Op == OpLiteral {
				literals++
				if p.Literal == "" || i > 0 && got[i-1].Op == OpLiteral {
					t.Errorf("%q: an empty or split literal in %+v", s, got)
				}
			}
		}
		if size > len(s) {
			t.Errorf("%q: %d bytes came of %d: %+v", s, size, len(s), got)
		}
		if !strings.Contains(s, "%") && s != "" && (literals != 1 || got[0].Literal != s) {
			t.Errorf("%q became %+v", s, got)
		}
	})
}
