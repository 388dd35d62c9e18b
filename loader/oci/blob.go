package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

var sha256Digest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// checkDescriptor refuses digests that are no SHA-256, which file names are made
// of, and sizes that cannot be.
func checkDescriptor(at string, d v1.Descriptor) error {
	if !sha256Digest.MatchString(d.Digest.String()) {
		return fmt.Errorf("%s.digest: %q: want sha256: and 64 hex digits", at, d.Digest)
	}
	if d.Size < 0 {
		return fmt.Errorf("%s.size: is %d", at, d.Size)
	}
	return nil
}

// blobPath is where the bytes of a checked descriptor lie.
func blobPath(d v1.Descriptor) string {
	return path.Join(v1.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded())
}

// short names a descriptor for people.
func short(d v1.Descriptor) string {
	s := d.Digest.String()
	return s[:min(len(s), len("sha256:")+12)]
}

// blob reads a small blob, whose size and digest must be the descriptor's, and
// gives it to take, or to encoding/json for v.
func (p *parser) blob(at string, d v1.Descriptor, v any, take func([]byte) error) error {
	if err := checkDescriptor(at, d); err != nil {
		return err
	}
	if d.Size > maxJSON {
		return fmt.Errorf("%s.size: is %d, at most %d are read", at, d.Size, maxJSON)
	}
	name := blobPath(d)
	data, err := p.read(name)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if n := int64(len(data)); n != d.Size {
		return fmt.Errorf("%s.size: is %d, %s has %d", at, d.Size, name, n)
	}
	sum := sha256.Sum256(data)
	if got := hex.EncodeToString(sum[:]); got != d.Digest.Encoded() {
		return fmt.Errorf("%s.digest: is %s, %s has sha256:%s: it was damaged or changed on the way; copy it again", at, short(d), name, got[:12])
	}
	if v != nil {
		err = json.Unmarshal(data, v)
	} else {
		err = take(data)
	}
	if err != nil {
		return fmt.Errorf("%s (%s): %w", at, short(d), err)
	}
	return nil
}

func (p *parser) json(name string, v any) error {
	data, err := p.read(name)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// read reads a small file. It asks what it is before: opening a pipe would wait
// for its writer.
func (p *parser) read(name string) ([]byte, error) {
	fi, err := fs.Stat(p.dir, name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("is no regular file (%v)", fi.Mode().Type())
	}
	f, err := p.dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxJSON+1))
	if err == nil && len(data) > maxJSON {
		err = fmt.Errorf("has %d bytes, at most %d are read", fi.Size(), maxJSON)
	}
	return data, err
}
