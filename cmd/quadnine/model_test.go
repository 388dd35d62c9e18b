package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// modelCommands are what scripts make models with:
//
//	tensors FILE NAME=BYTES[/WIDTH][@OFFSET,OFFSET]...   a safetensors file, of rows of
//	                                      WIDTH bytes; @ changes the bytes there
//	flip FILE OFFSET                      change a byte; from the end when negative
//	cut FILE BYTES                        shorten
//	zst OLD NEW FILE                      a zstd patch
var modelCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"tensors": func(ts *testscript.TestScript, _ bool, args []string) {
		header := map[string]any{}
		var data []byte
		for _, a := range args[1:] {
			name, spec, _ := strings.Cut(a, "=")
			length, flips, flipped := strings.Cut(spec, "@")
			length, width, wide := strings.Cut(length, "/")
			b := make([]byte, number(ts, length))
			shape := []int{len(b)}
			if wide {
				shape = []int{len(b) / number(ts, width), number(ts, width)}
			}
			_, _ = rand.NewChaCha8([32]byte([]byte(name + strings.Repeat(" ", 32-len(name))))).Read(b)
			for at := range strings.SplitSeq(flips, ",") {
				if flipped {
					b[number(ts, at)] ^= 1
				}
			}
			header[name] = map[string]any{"dtype": "U8", "shape": shape, "data_offsets": []int{len(data), len(data) + len(b)}}
			data = append(data, b...)
		}
		h, err := json.Marshal(header)
		ts.Check(err)
		file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...)
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), append(file, data...), 0o644))
	},
	"flip": func(ts *testscript.TestScript, _ bool, args []string) {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		ts.Check(err)
		b[(number(ts, args[1])+len(b))%len(b)] ^= 1
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
	},
	"zst": func(ts *testscript.TestScript, _ bool, args []string) {
		old, err := os.ReadFile(ts.MkAbs(args[0]))
		ts.Check(err)
		target, err := os.ReadFile(ts.MkAbs(args[1]))
		ts.Check(err)
		p, err := zstPatch(old, target)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), p, 0o644))
	},
	"cut": func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Check(os.Truncate(ts.MkAbs(args[0]), int64(number(ts, args[1]))))
	},
}

func number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}

// The exit code says whether a model is bad (3) or the command could not look (1).
func TestModelVerifyExitCodes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.qd")
	if err := os.WriteFile(bad, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{bad: exitShort, dir: exitShort, filepath.Join(dir, "none"): exitFailure} {
		var out, errs bytes.Buffer
		if got := execute(t.Context(), []string{"model", "verify", path}, &out, &errs); got != want {
			t.Errorf("%s: exit %d, want %d (%s)", path, got, want, errs.String())
		}
	}
}
