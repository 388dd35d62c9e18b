package patch

import "time"

// now is the wall clock, for the figures of a report.
var now = time.Now //nolint:forbidigo // a child is not the hot path
