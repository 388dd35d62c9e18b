package delta

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
)

// TensorBytes is a tensor with its bytes.
type TensorBytes struct {
	Name  string
	DType string
	Shape []int64
	Data  []byte // as many as dtype and shape say
}

// WriteSafetensors writes tensors as a safetensors file, in their order. The data
// begins on a page, and so does each tensor whose predecessors are whole pages:
// put the large ones first. The same tensors give the same bytes. What is written
// is checked like any file: an error says what no reader would take.
func WriteSafetensors(w io.Writer, tensors []TensorBytes) error {
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	head := make(map[string]entry, len(tensors))
	size := int64(0)
	for _, t := range tensors {
		if _, twice := head[t.Name]; twice {
			return malformed("tensor %q is there twice", t.Name)
		}
		shape := append([]int64{}, t.Shape...) // a scalar's is a list, too
		head[t.Name] = entry{t.DType, shape, [2]int64{size, size + int64(len(t.Data))}}
		size += int64(len(t.Data))
	}
	text, err := json.Marshal(head)
	if err != nil {
		return err
	}
	text = append(text, bytes.Repeat([]byte{' '}, (PageSize-(8+len(text))%PageSize)%PageSize)...)
	text = append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	if _, err := ParseSafetensors(bytes.NewReader(text), int64(len(text))+size); err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	for _, t := range tensors {
		if _, err := w.Write(t.Data); err != nil {
			return err
		}
	}
	return nil
}
