package delta

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"
)

// raw builds a file from header text and n data bytes.
func raw(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

func TestSafetensorsRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":            {nil, "byte 0: 0 bytes are no safetensors file"},
		"header past end":  {binary.LittleEndian.AppendUint64(nil, 100), "byte 0: header length is 100, but only 0 bytes follow"},
		"huge header":      {binary.LittleEndian.AppendUint64(nil, 1<<63), "byte 0: header length is 9223372036854775808, at most 104857600"},
		"above the bound":  {binary.LittleEndian.AppendUint64(nil, maxHeader+1), "header length is 104857601"},
		"no header":        {raw("", 8), "header length is 0, want at least 2"},
		"no object":        {raw("[]", 0), `byte 8: header begins with '['`},
		"not UTF-8":        {raw("{\"\xff\":{}}", 0), "not UTF-8"},
		"cut JSON":         {raw(`{"a":`, 0), "header: unexpected EOF"},
		"bad JSON":         {raw(`{"a":}`, 0), "header: invalid character"},
		"after the end":    {raw(`{}x`, 0), `byte 10: "x" after the end`},
		"deep":             {raw(`{"a":`+strings.Repeat("[", 100000), 0), `byte 14: tensor "a": got [, want {`},
		"deep metadata":    {raw(`{"__metadata__":{"a":{}}}`, 0), `__metadata__ "a": got {, want a string`},
		"metadata twice":   {raw(`{"__metadata__":{"a":"","a":""}}`, 0), `"a" is there twice`},
		"name twice":       {raw(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0), `"a" is there twice`},
		"escaped twice":    {raw(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0), `"a" is there twice`},
		"no name":          {raw(`{"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0), "name has 0 bytes"},
		"long name":        {raw(`{"`+strings.Repeat("x", maxName+1)+`":{}}`, 0), "name has 4097 bytes"},
		"field twice":      {raw(`{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0), `"dtype" is there twice`},
		"unknown field":    {raw(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"scale":1}}`, 0), `tensor "a": unknown field "scale"`},
		"no dtype":         {raw(`{"a":{"shape":[0],"data_offsets":[0,0]}}`, 0), `tensor "a": unknown dtype ""`},
		"unknown dtype":    {raw(`{"a":{"dtype":"u8","shape":[0],"data_offsets":[0,0]}}`, 0), `tensor "a": unknown dtype "u8"`},
		"no shape":         {raw(`{"a":{"dtype":"U8","data_offsets":[0,0]}}`, 0), `tensor "a": no shape`},
		"no offsets":       {raw(`{"a":{"dtype":"U8","shape":[0]}}`, 0), "data_offsets has 0 numbers"},
		"three offsets":    {raw(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}}`, 0), "more than 2 numbers"},
		"backwards":        {raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1), "end at 0 before they begin at 1"},
		"negative":         {raw(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}`, 1), "got -1, want a whole number"},
		"fraction":         {raw(`{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}`, 1), "got 1.0, want a whole number"},
		"2^63":             {raw(`{"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]}}`, 1), "got 9223372036854775808"},
		"shape overflows":  {raw(`{"a":{"dtype":"F64","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,0]}}`, 0), "overflows"},
		"overflows to 0":   {raw(`{"a":{"dtype":"U8","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0), "overflows"},
		"offsets overflow": {raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[9223372036854775806,9223372036854775807]}}`, 1), "at most 1125899906842624"},
		"rank":             {raw(`{"a":{"dtype":"U8","shape":[`+strings.Repeat("1,", 64)+`1],"data_offsets":[0,1]}}`, 1), "more than 64 numbers"},
		"half a byte":      {raw(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}`, 1), "does not fill whole bytes"},
		"wrong size":       {raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4), `tensor "a": F32[2] takes 8 bytes, data_offsets hold 4`},
		"hole":             {raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), `tensor "a": begins at byte 62, but nothing fills the file from byte 61`},
		"overlap":          {raw(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3), `tensor "b": begins at byte 114, within "a"`},
		"data cut":         {raw(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 1), `tensor "a": ends at byte 63, but the file ends at byte 62`},
		"trailing":         {raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 2), "byte 62: the last tensor ends here, the file 1 bytes later"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseSafetensors(bytes.NewReader(c.file), int64(len(c.file)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestSafetensorsTakes(t *testing.T) {
	for name, file := range map[string][]byte{
		"no tensors":    raw(`{}`, 0),
		"spaces":        raw(`{}      `, 0),
		"empty tensors": raw(`{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},"c":{"dtype":"I8","shape":[0],"data_offsets":[1,1]}}`, 1),
		"scalar":        raw(`{"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}`, 8),
		"four bits":     raw(`{"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}`, 2),
	} {
		if _, err := ParseSafetensors(bytes.NewReader(file), int64(len(file))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// testdata/python.safetensors was written by testdata/gen.py with the Python
// package: what it says about itself is what we read.
func TestSafetensorsFromPython(t *testing.T) {
	b, err := os.ReadFile("testdata/python.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSafetensors(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if s.Metadata["made_by"] != "numpy" {
		t.Errorf("metadata %v", s.Metadata)
	}
	w, ok := s.Tensor("w_uvd")
	if !ok || w.DType != "F64" || len(w.Shape) != 0 || !bytes.Equal(b[w.Off:w.Off+w.Len], binary.LittleEndian.AppendUint64(nil, 0x3fe4cccccccccccd)) { // 0.65
		t.Errorf("w_uvd: %+v %t", w, ok)
	}
	e, ok := s.Tensor("embed.weight")
	if !ok || e.DType != "F32" || !slices.Equal(e.Shape, []int64{64, 32}) || e.Len != 64*32*4 {
		t.Errorf("embed.weight: %+v %t", e, ok)
	}
	if _, ok := s.Tensor("nothing"); ok || len(s.Tensors) != 7 {
		t.Errorf("%d tensors", len(s.Tensors))
	}
}
