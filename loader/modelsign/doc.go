// Package modelsign checks signatures of the OpenSSF Model Signing format 1.0: what
// `model_signing sign key` writes beside a model's files, as model.sig.
//
// The file is a sigstore bundle 0.3: a DSSE envelope around an in-toto statement
// that lists every file of the directory with its SHA-256. Only signatures by an
// ECDSA P-256 key are taken. Those by certificates, keyless ones among them, would
// need roots of trust, a transparency log and the network, and are refused; so are
// other digests than SHA-256 and files in shards.
//
// Verify says what was signed. Holding that against a directory is for who reads it.
//
// # Concurrency
//
// Values are plain and safe to read from any goroutine once built.
package modelsign
