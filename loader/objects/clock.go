package objects

import "time"

// now is the wall clock: ages of versions are counted in days.
var now = time.Now //nolint:forbidigo // fetching and tiering are not the hot path
