package modelsign

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
)

// FileName is where a drop has its bundle.
const FileName = "model.sig"

// MaxSize bounds a bundle, in bytes.
const MaxSize = 1 << 20

const (
	bundleType  = "application/vnd.dev.sigstore.bundle.v0.3+json"
	payloadType = "application/vnd.in-toto+json"
)

// What Verify returns, wrapped with the field and the figures.
var (
	ErrUnknownKey   = errors.New("unknown key")
	ErrBadSignature = errors.New("bad signature")
	ErrUnsupported  = errors.New("unsupported")
)

// bundle is a sigstore bundle, as far as it matters here.
type bundle struct {
	MediaType string `json:"mediaType"`
	Material  struct {
		PublicKey *struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
		Certificate json.RawMessage `json:"certificate"`
		Chain       json.RawMessage `json:"x509CertificateChain"`
	} `json:"verificationMaterial"`
	Message  json.RawMessage `json:"messageSignature"`
	Envelope *envelope       `json:"dsseEnvelope"`
}

type envelope struct {
	Payload    []byte `json:"payload"`
	Type       string `json:"payloadType"`
	Signatures []struct {
		Sig []byte `json:"sig"`
	} `json:"signatures"`
}

// Verify reads a bundle, checks that one of keys signed it, and returns what it says.
// Every error names the field.
func Verify(data []byte, keys []*Key) (*Statement, error) {
	b, err := parse(data)
	if err != nil {
		return nil, err
	}
	key, err := b.key(keys)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b.Envelope.pae())
	if !ecdsa.VerifyASN1(key.key, sum[:], b.Envelope.Signatures[0].Sig) {
		return nil, fmt.Errorf("dsseEnvelope.signatures[0].sig: %w: key %s… did not sign this statement; sign the drop again", ErrBadSignature, key.ID[:12])
	}
	s, err := parseStatement(b.Envelope.Payload)
	if err != nil {
		return nil, fmt.Errorf("dsseEnvelope.payload: %w", err)
	}
	return s, nil
}

// parse checks all of a bundle but the signature.
func parse(data []byte) (*bundle, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("has %d bytes, at most %d are read", len(data), MaxSize)
	}
	var b bundle
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, err
	}
	if b.MediaType != bundleType {
		return nil, fmt.Errorf("mediaType: is %q, want %q: %w", b.MediaType, bundleType, ErrUnsupported)
	}
	const keysOnly = "is signed by a certificate; only keys are trusted here: sign with `model_signing sign key`"
	switch e := b.Envelope; {
	case there(b.Material.Certificate):
		return nil, fmt.Errorf("verificationMaterial.certificate: %s: %w", keysOnly, ErrUnsupported)
	case there(b.Material.Chain):
		return nil, fmt.Errorf("verificationMaterial.x509CertificateChain: %s: %w", keysOnly, ErrUnsupported)
	case b.Material.PublicKey == nil:
		return nil, errors.New("verificationMaterial.publicKey: is missing")
	case there(b.Message):
		return nil, fmt.Errorf("messageSignature: signs one file, want a dsseEnvelope over all of them: %w", ErrUnsupported)
	case e == nil:
		return nil, errors.New("dsseEnvelope: is missing")
	case e.Type != payloadType:
		return nil, fmt.Errorf("dsseEnvelope.payloadType: is %q, want %q: %w", e.Type, payloadType, ErrUnsupported)
	case len(e.Signatures) != 1:
		return nil, fmt.Errorf("dsseEnvelope.signatures: has %d, want 1", len(e.Signatures))
	}
	return &b, nil
}

func there(v json.RawMessage) bool { return len(v) > 0 && string(v) != "null" }

// key returns the trusted key that the bundle names.
func (b *bundle) key(keys []*Key) (*Key, error) {
	hint := b.Material.PublicKey.Hint
	for _, k := range keys {
		if k.ID == hint {
			return k, nil
		}
	}
	if len(hint) > 64 {
		hint = hint[:64]
	}
	return nil, fmt.Errorf("verificationMaterial.publicKey.hint: %w %q: it is none of the %d trusted keys", ErrUnknownKey, hint, len(keys))
}

// pae is the text that is signed: DSSE 1.0, protocol.md, "PAE".
func (e *envelope) pae() []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(e.Type), e.Type, len(e.Payload)), e.Payload...)
}
