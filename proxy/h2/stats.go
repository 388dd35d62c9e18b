package h2

// Stats counts what happened on a connection since it began.
type Stats struct {
	Frames        uint64 // received
	Streams       uint64 // opened by either side
	DataOut       uint64 // DATA frames sent
	ResetsIn      uint64 // RST_STREAM received on open streams
	ResetsOut     uint64 // RST_STREAM sent
	StreamErrors  uint64 // streams ended for what the peer did
	Malformed     uint64 // messages that break RFC 9113 section 8
	Refused       uint64 // streams above MaxConcurrentStreams
	Continuations uint64
	Interim       uint64 // 1xx heads received
	EmptyData     uint64 // DATA without payload and without END_STREAM
	Priorities    uint64
	WindowUpdates uint64
	Settings      uint64
	Pings         uint64
	GoAways       uint64
	Unknown       uint64 // frames of unknown type
	Floods        uint64 // frames charged to the flood budget
	LastMalformed string // why the last malformed message was refused
}

// Malformed returns how many messages were refused for breaking RFC 9113 section 8.
func (c *Conn) Malformed() uint64 { return c.stats.Malformed }

// Stats returns the counters.
func (c *Conn) Stats() Stats { return c.stats }
