package loader

import "time"

// now is the wall clock. It is read when a version changes state, never when a
// lease is taken.
var now = time.Now //nolint:forbidigo // the life of versions is not the hot path
