package wasm

import "time"

// begun is what pauses are measured from: a clock that never goes back.
var begun = time.Now() //nolint:forbidigo // read where a guest is called, on workers

// clock returns nanoseconds since begun.
func clock() int64 { return int64(time.Since(begun)) } //nolint:forbidigo // see begun
