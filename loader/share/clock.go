package share

import "time"

// now is the wall clock. It is read when clients and versions come and go, never
// by a request.
var now = time.Now //nolint:forbidigo // clients and versions are not the hot path
