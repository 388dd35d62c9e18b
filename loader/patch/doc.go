// Package patch makes versions out of transport patches: BSDIFF40 files, as
// Colin Percival's bsdiff 4 and Python's bsdiff4 write them, and what zstd
// --patch-from writes. Both describe a whole new file, which has to be made
// before any of it can be mapped; so it is made by a child process, which cannot
// take more memory, disk or time than it was given, and whose end is one failed
// drop.
//
// The parent describes the work (Job), looks at what it will take (Need) and runs
// a Child. The child, Run, writes the new version, and then the .qd delta from the
// base to it: what is kept and mapped is the delta. It is handed open files and
// opens none; nothing that it says is trusted, for the delta goes through the same
// proof as one that came in a drop.
//
// # BSDIFF40
//
//	 0  8 magic "BSDIFF40"
//	 8  8 bytes of the control block as it is in the file
//	16  8 bytes of the difference block as it is in the file
//	24  8 bytes of the new file
//	32    control block, difference block and the extra block, which goes to the
//	      end; each compressed by bzip2
//
// Numbers have their sign in the top bit of the last byte, little-endian before
// it. The control block holds triples (add, copy, seek): add bytes of the
// difference block are added to the base's next ones, copy bytes come from the
// extra block, then the place in the base moves by seek. Where the place is
// outside of the base, its bytes count as 0.
//
// # Concurrency
//
// Values are plain; a Child may run many jobs, one after the other or at once.
package patch
