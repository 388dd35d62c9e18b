package modelsign

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
)

const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://model_signing/signature/v1.0"
	maxResources  = 4096
)

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Statement is what was signed: which files a directory has, and their digests.
type Statement struct {
	Files   []File            // in the order of the statement
	digests map[string]string // by name
}

// File is a file with its SHA-256, in hex.
type File struct{ Name, SHA256 string }

// Digest returns the SHA-256 of a file, in hex.
func (s *Statement) Digest(name string) (sum string, ok bool) {
	sum, ok = s.digests[name]
	return sum, ok
}

// parseStatement reads an in-toto statement with the predicate of model signing 1.0.
// What the signer ignored is not looked at: a file that is not in the list is not
// signed, whatever the reason.
func parseStatement(data []byte) (*Statement, error) {
	var v struct {
		Type    string `json:"_type"`
		Subject []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
		PredicateType string `json:"predicateType"`
		Predicate     struct {
			Serialization struct {
				Method   string `json:"method"`
				HashType string `json:"hash_type"`
			} `json:"serialization"`
			Resources []struct {
				Name      string `json:"name"`
				Algorithm string `json:"algorithm"`
				Digest    string `json:"digest"`
			} `json:"resources"`
		} `json:"predicate"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	how, list := v.Predicate.Serialization, v.Predicate.Resources
	switch {
	case v.Type != statementType:
		return nil, fmt.Errorf("_type: is %q, want %q: %w", v.Type, statementType, ErrUnsupported)
	case v.PredicateType != predicateType:
		return nil, fmt.Errorf("predicateType: is %q, want %q: %w", v.PredicateType, predicateType, ErrUnsupported)
	case how.Method != "files":
		return nil, fmt.Errorf("predicate.serialization.method: is %q, want \"files\": digests of shards are not checked here: %w", how.Method, ErrUnsupported)
	case how.HashType != "sha256":
		return nil, fmt.Errorf("predicate.serialization.hash_type: is %q, want \"sha256\": %w", how.HashType, ErrUnsupported)
	case len(v.Subject) != 1:
		return nil, fmt.Errorf("subject: has %d, want 1", len(v.Subject))
	case len(list) == 0:
		return nil, errors.New("predicate.resources: is empty")
	case len(list) > maxResources:
		return nil, fmt.Errorf("predicate.resources: has %d, at most %d are allowed", len(list), maxResources)
	}
	s := &Statement{digests: make(map[string]string, len(list))}
	root := sha256.New()
	for i, r := range list {
		at := fmt.Sprintf("predicate.resources[%d]", i)
		switch _, twice := s.digests[r.Name]; {
		case r.Algorithm != "sha256":
			return nil, fmt.Errorf("%s.algorithm: is %q, want \"sha256\": %w", at, r.Algorithm, ErrUnsupported)
		case !sha256Hex.MatchString(r.Digest):
			return nil, fmt.Errorf("%s.digest: %q: want 64 lower-case hex digits", at, r.Digest)
		case !fs.ValidPath(r.Name) || r.Name == ".":
			return nil, fmt.Errorf("%s.name: %q: want a plain relative path", at, r.Name)
		case twice:
			return nil, fmt.Errorf("%s.name: %q is there twice", at, r.Name)
		}
		sum, _ := hex.DecodeString(r.Digest) // 64 hex digits
		_, _ = root.Write(sum)               // a hash takes all
		s.digests[r.Name] = r.Digest
		s.Files = append(s.Files, File{r.Name, r.Digest})
	}
	if got, want := hex.EncodeToString(root.Sum(nil)), v.Subject[0].Digest["sha256"]; got != want {
		return nil, fmt.Errorf("subject[0].digest.sha256: is %q, the resources make %s", want, got)
	}
	return s, nil
}
