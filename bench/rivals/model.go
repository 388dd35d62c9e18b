package rivals

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// NewDrops makes a folder below dir with one version of a model that
// accompanies every request, packed by the quadnine binary; it is active at once.
func NewDrops(ctx context.Context, quadnine, dir string) (string, error) {
	const header = `{"w":{"dtype":"F32","shape":[1024],"data_offsets":[0,4096]}}`
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	file = append(append(file, header...), make([]byte, 4096)...)
	path := filepath.Join(dir, "model.safetensors")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		return "", fmt.Errorf("rivals: model: %w", err)
	}
	drops := filepath.Join(dir, "drops")
	cmd := exec.CommandContext(ctx, quadnine, "model", "pack", path, "--model", "bench", "--version", "1", "--canary-weight", "0", "-o", filepath.Join(drops, "v1"))
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("rivals: pack a model: %w\n%s", err, msg)
	}
	return drops, nil
}

// awaitModel waits until the version is active.
func (r *Running) awaitModel(ctx context.Context) error {
	return r.Await(ctx, "bring its model version in", func(ctx context.Context) bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Admin+"/models", http.NoBody)
		if err != nil {
			return false
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		return err == nil && strings.Contains(string(text), "active")
	})
}
