// Package delta holds the formats of a model version on its way: the safetensors
// file (Safetensors), the delta that turns one into the next (Delta), the drop
// that carries them (Manifest, Drop), their roots and signatures.
//
// It works on bytes: it maps nothing, watches nothing and starts nothing that
// outlives a call. Every length, offset, order and overlap in a file is checked
// before it is used, so that what Parse returns can be mapped without a look back.
//
// # Roots
//
// A range of n bytes is cut into blocks of 16 KiB. A leaf is the BLAKE3-256 of a
// block, the root the BLAKE3-256 of
//
//	"quadnine.root.v1\0" ‖ n as uint64 ‖ leaf 0 ‖ leaf 1 ‖ …
//
// All integers in all formats are little-endian.
//
// # The .qd file
//
// A header of 4 KiB, the table at byte 4096, zeros up to the next page, the
// payload, nothing else. The header:
//
//	 0  8 magic "QDELTA1\0"        104  8 payload size
//	 8  4 format version           112 32 payload root
//	12  4 block size, 16384        144  8 table offset, 4096
//	16  8 base size                152  8 table size
//	24 32 base root                160 32 table root
//	56  8 target size              192  4 number of entries
//	64 32 target root              196  4 number of extents, of all entries
//	96  8 payload offset           200 32 BLAKE3-256 of the header with this field zero
//	                               232  4 number of rows, of all entries
//	                               236    zeros
//
// The format version is 2 when there are rows and 1 when there are none, so that
// a program that knows version 1 only reads what it understands.
//
// The table holds the entries one after the other, each 32 bytes, its name, and
// for PAGES its extents of 24 bytes, for ROWS where its rows lie (16 bytes) and
// their numbers, 4 bytes each:
//
//	entry   kind u8 (1 REF, 2 PAGES, 3 WHOLE, 4 ROWS) · 0 u8 · name length u16
//	        · extents or rows u32 · target offset u64 · length u64 · source offset u64
//	extent  offset in the entry u64 · length u64 · payload offset u64
//	rows    payload offset u64 · row size in bytes u64 · row number u32 …
//
// Entries cover the target from its first byte to its last, without gap or
// overlap. The source is the base for REF, PAGES and ROWS, the payload for WHOLE.
// Payload offsets count from the payload's first byte; they grow with the table,
// with less than a page of padding before each piece and none after the last.
//
// A ROWS entry is a whole number of rows, counted from 0. The rows that its
// numbers name, which ascend, lie in the payload one after the other, without
// padding; all others are the base's. The numbers are part of the table and so
// under its root, which is signed, and are checked before any is used.
//
// What makes a delta mappable: of a PAGES entry the base offset, the extents'
// offsets and their payload offsets are multiples of 4096, and so are the
// extents' lengths, except that of one that ends with its entry. A WHOLE entry of
// a page or more has its payload offset and its target offset congruent modulo
// 4096. A tensor that begins or ends within a page becomes several entries of its
// name: the edges, shorter than a page, are REF or WHOLE.
//
// # The signature
//
// A drop is signed with Ed25519 over one root, see Manifest.SignedRoot: the roots
// of base, payload, table and target, and the manifest in its canonical form, so
// that nothing with an effect can be changed, added or left out, neither bytes
// nor eval, canary, shadow, warmup, required_env, schema_version, paths and
// sizes. Model and version are part of it: a signature is good for one version of
// one model.
//
// The canonical manifest is the manifest's JSON without the member signature, in
// the form of RFC 8785: no spaces, members sorted, one way to write each number
// and string. An empty required_env, warmup or sha256 is left out; a canary or a
// shadow that is there has all its members, with their defaults where the text
// has none, and promote_after as time.Duration prints it (90s is "1m30s").
//
// # Concurrency
//
// Values are plain and safe to read from any goroutine once built. Functions
// that take Options hash and compare with Options.Workers goroutines, all ended
// when they return; Options.Progress is called from any of them.
package delta
