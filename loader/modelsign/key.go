package modelsign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

const keyBlock = "PUBLIC KEY"

// Key is a public key that signatures are checked with.
type Key struct {
	ID string // what bundles call it: the SHA-256 of its PEM text, in hex

	key *ecdsa.PublicKey
}

// ParseKey reads a key's file: one PEM block of a P-256 key, as `openssl ec -pubout`
// writes it.
func ParseKey(data []byte) (*Key, error) {
	b, rest := pem.Decode(data)
	if b == nil {
		return nil, errors.New("is no PEM file: want the public half of a P-256 key, as openssl ec -pubout writes it")
	}
	if b.Type != keyBlock {
		return nil, fmt.Errorf("holds a %s, want a %s", b.Type, keyBlock)
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, fmt.Errorf("holds a second block, a %s: want one key a file", next.Type)
	}
	public, err := x509.ParsePKIXPublicKey(b.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("holds a key of another kind (%T): want ECDSA on the curve P-256", public)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})) // the one text of it, whatever the file's line breaks
	return &Key{ID: hex.EncodeToString(sum[:]), key: key}, nil
}
