package h2

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/quadnine/quadnine/proxy/field"
)

// story is a file of testdata/hpack, in the format of the public hpack-test-case
// collection: header blocks that follow one another on a connection, as an encoder
// wrote them, and what they say. Those of RFC 7541 are its examples; the others were
// written by the program that the file's description names.
type story struct {
	Description string `json:"description"`
	Cases       []struct {
		Seqno   int                 `json:"seqno"`
		Wire    string              `json:"wire"`
		Headers []map[string]string `json:"headers"`
	} `json:"cases"`
}

// stories yields all of them by the name of their file.
func stories(t *testing.T, f func(name string, s *story)) {
	t.Helper()
	files, err := filepath.Glob("testdata/hpack/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s := new(story)
		if err := json.Unmarshal(text, s); err != nil || len(s.Cases) == 0 {
			t.Fatalf("%s: %v", file, err)
		}
		f(filepath.Base(file), s)
	}
}

// fields returns what a case's block says.
func (s *story) fields(t *testing.T, i int) (out []hpack.HeaderField) {
	t.Helper()
	for _, one := range s.Cases[i].Headers {
		if len(one) != 1 {
			t.Fatalf("case %d: a header with %d names", i, len(one))
		}
		for name, value := range one {
			out = append(out, hpack.HeaderField{Name: name, Value: value})
		}
	}
	return out
}

// sameText is same without the marks for sensitive fields, which stories lack.
func sameText(t *testing.T, l *field.List, want []hpack.HeaderField) {
	t.Helper()
	for i := range want {
		want[i].Sensitive = i < l.Len() && l.Sensitive(i)
	}
	same(t, l, want)
}

// Every block is read as it was meant, and what it says is written so that another
// decoder reads the same.
func TestStories(t *testing.T) {
	stories(t, func(name string, s *story) {
		t.Run(name, func(t *testing.T) {
			var dec decoder
			dec.init(DefaultConfig())
			marked, plain := newCoder(), newCoder()
			for i, c := range s.Cases {
				wire, err := hex.DecodeString(c.Wire)
				if err != nil {
					t.Fatal(err)
				}
				var l field.List
				if cut, err := dec.decode(wire, &l); err != nil || cut {
					t.Fatalf("case %d: %v, cut %v", c.Seqno, err, cut)
				}
				sameText(t, &l, s.fields(t, i))
				_, got := marked.send(t, &l) // as it is passed on
				same(t, &l, got)
				_, got = plain.send(t, bare(&l)) // as if it were our own
				same(t, &l, got)
			}
		})
	})
}

// x/net's encoder writes the same lists, with a table that shrinks and grows on the
// way, and ours reads them.
func TestStoriesByAnotherEncoder(t *testing.T) {
	stories(t, func(name string, s *story) {
		t.Run(name, func(t *testing.T) {
			var dec decoder
			dec.init(DefaultConfig())
			var b bytes.Buffer
			enc := hpack.NewEncoder(&b)
			for i := range s.Cases {
				b.Reset()
				enc.SetMaxDynamicTableSize([]uint32{4096, 0, 100, 256, 4096}[i%5])
				want := s.fields(t, i)
				for j := range want {
					want[j].Sensitive = (i+j)%7 == 3
					if err := enc.WriteField(want[j]); err != nil {
						t.Fatal(err)
					}
				}
				var l field.List
				if cut, err := dec.decode(b.Bytes(), &l); err != nil || cut {
					t.Fatalf("case %d: %v, cut %v", i, err, cut)
				}
				same(t, &l, want)
			}
		})
	})
}
