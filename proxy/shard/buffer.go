package shard

import "sync"

// readSize is how much one read may bring: a full window of a default peer, so
// that one wake-up takes a whole burst.
const readSize = 64 << 10

// keepOutput is the largest output buffer that an idle connection keeps.
const keepOutput = 16 << 10

type readBuffer [readSize]byte

// readBuffers are held only between a read and its Feed: an idle connection
// holds none.
var readBuffers = sync.Pool{New: func() any { return new(readBuffer) }}
