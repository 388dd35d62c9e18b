package delta

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"lukechampine.com/blake3"
)

// What VerifySignature returns, wrapped with the figures.
var (
	ErrUnsigned     = errors.New("no signature")
	ErrUnknownKey   = errors.New("unknown key")
	ErrBadSignature = errors.New("bad signature")
)

// Signature is an Ed25519 signature of a SignedRoot.
type Signature struct {
	KeyID   string
	Ed25519 []byte
}

// MarshalJSON writes the signature as a manifest has it.
func (s Signature) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		KeyID   string `json:"key_id"`
		Ed25519 string `json:"ed25519"`
	}{s.KeyID, base64.StdEncoding.EncodeToString(s.Ed25519)})
}

// PublicKey is a key that drops are checked with. Its file is one line,
//
//	quadnine-public-key <key id> <32 bytes as base64>
//
// lines that begin with # are comments.
type PublicKey struct {
	ID  string
	key ed25519.PublicKey
}

// PrivateKey is a key that drops are signed with. Its file is as a public key's,
// with quadnine-private-key and the seed.
type PrivateKey struct {
	ID  string
	key ed25519.PrivateKey
}

const (
	publicWord  = "quadnine-public-key"
	privateWord = "quadnine-private-key"
)

// GenerateKey makes a key from the system's randomness.
func GenerateKey() (*PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	return newPrivateKey(key), nil
}

func newPrivateKey(key ed25519.PrivateKey) *PrivateKey {
	pub, _ := key.Public().(ed25519.PublicKey) // as its documentation says
	return &PrivateKey{ID: keyID(pub), key: key}
}

// keyID names a public key: the first 8 bytes of its hash.
func keyID(pub ed25519.PublicKey) string {
	sum := blake3.Sum256(pub)
	return hex.EncodeToString(sum[:8])
}

// Public returns the key's public half.
func (k *PrivateKey) Public() *PublicKey {
	pub, _ := k.key.Public().(ed25519.PublicKey)
	return &PublicKey{ID: k.ID, key: pub}
}

// Marshal returns the key's file. It is a secret: write it with mode 0600.
func (k *PrivateKey) Marshal() []byte {
	return []byte("# Signs model versions of quadnine. Keep it secret.\n" + keyLine(privateWord, k.ID, k.key.Seed()))
}

// Marshal returns the key's file.
func (k *PublicKey) Marshal() []byte { return []byte(keyLine(publicWord, k.ID, k.key)) }

func keyLine(word, id string, b []byte) string {
	return word + " " + id + " " + base64.StdEncoding.EncodeToString(b) + "\n"
}

// ParsePrivateKey reads a private key's file.
func ParsePrivateKey(data []byte) (*PrivateKey, error) {
	id, b, err := parseKey(data, privateWord)
	if err != nil {
		return nil, err
	}
	k := newPrivateKey(ed25519.NewKeyFromSeed(b))
	if k.ID != id {
		return nil, malformed("the key's id is %s, the file says %q: it was damaged", k.ID, id)
	}
	return k, nil
}

// ParsePublicKey reads a public key's file.
func ParsePublicKey(data []byte) (*PublicKey, error) {
	id, b, err := parseKey(data, publicWord)
	if err != nil {
		return nil, err
	}
	if got := keyID(b); got != id {
		return nil, malformed("the key's id is %s, the file says %q: it was damaged", got, id)
	}
	return &PublicKey{ID: id, key: b}, nil
}

func parseKey(data []byte, word string) (id string, key []byte, err error) {
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		if len(words) != 3 || words[0] != word || id != "" {
			return "", nil, malformed("want one line: %s, its id, the key as base64 (a secret one and a public one are different files)", word)
		}
		id = words[1]
		if key, err = base64.StdEncoding.Strict().DecodeString(words[2]); err != nil {
			return "", nil, malformed("the key is no base64: %w", err)
		}
	}
	if len(key) != ed25519.SeedSize { // a public key has 32 bytes too
		return "", nil, malformed("the key has %d bytes, want %d", len(key), ed25519.SeedSize)
	}
	return id, key, nil
}

// Sign signs a SignedRoot.
func (k *PrivateKey) Sign(root Root) *Signature {
	return &Signature{KeyID: k.ID, Ed25519: ed25519.Sign(k.key, root[:])}
}

// VerifySignature reports whether s is the signature of root by one of keys:
// nil, or ErrUnsigned, ErrUnknownKey or ErrBadSignature.
func VerifySignature(keys []*PublicKey, s *Signature, root Root) error {
	if s == nil {
		return fmt.Errorf("%w: sign the drop with quadnine model pack --key", ErrUnsigned)
	}
	for _, k := range keys {
		if k.ID != s.KeyID {
			continue
		}
		if !ed25519.Verify(k.key, root[:], s.Ed25519) {
			return fmt.Errorf("%w: key %s did not sign root %s: the drop or its manifest was changed after it was signed, or the signature is another drop's; pack and sign it again", ErrBadSignature, k.ID, root.Short())
		}
		return nil
	}
	return fmt.Errorf("%w %q: it is none of the %d trusted keys", ErrUnknownKey, s.KeyID, len(keys))
}
