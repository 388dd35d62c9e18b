package h2

// Config bounds a connection. Start from DefaultConfig: a zero limit means zero.
type Config struct {
	MaxConcurrentStreams uint32 // advertised; streams above it are refused (server role)
	StreamWindow         uint32 // bytes; advertised as SETTINGS_INITIAL_WINDOW_SIZE
	ConnWindow           uint32 // bytes; never below the protocol's 65,535
	MaxFrameSize         uint32 // bytes; advertised; 16,384 to 16,777,215
	MaxHeaderBytes       uint32 // RFC 9113 section 6.5.2 size of a header list; advertised
	MaxHeaderFields      int    // fields in a header list
	HeaderTableSize      uint32 // bytes; advertised size of the peer's compression table
	OutputLimit          int    // bytes of output and backlog above which body data waits
	ExtendedConnect      bool   // server role: advertise RFC 8441 and accept :protocol

	// Budgets against floods. Going over one ends the connection with
	// ENHANCE_YOUR_CALM.
	MaxContinuations int   // CONTINUATION frames of one header block
	MaxEmptyFrames   int   // DATA and CONTINUATION without payload or end, one after the other
	MaxPendingAcks   int   // PING and SETTINGS acknowledgements that the peer has not read
	ResetBurst       int64 // server role: streams reset by the peer, or by its errors, at once
	ResetRate        int64 // and per second
	FloodBurst       int64 // frames that carry nothing (see Stats.Floods) at once
	FloodRate        int64 // and per second
}

// DefaultConfig returns the limits of docs/architecture: 100 streams, windows of
// 64 KiB and 1 MiB, header lists of 64 KiB and 100 fields.
func DefaultConfig() Config {
	return Config{
		MaxConcurrentStreams: 100,
		StreamWindow:         65535,
		ConnWindow:           1 << 20,
		MaxFrameSize:         minMaxFrame,
		MaxHeaderBytes:       64 << 10,
		MaxHeaderFields:      100,
		HeaderTableSize:      defaultTableSize,
		OutputLimit:          256 << 10,
		MaxContinuations:     64,   // 16 full frames hold the largest block that is read at all
		MaxEmptyFrames:       1,    // Envoy's
		MaxPendingAcks:       1000, // Envoy's bound for outbound control frames
		ResetBurst:           200,  // twice the streams that can be open
		ResetRate:            100,
		FloodBurst:           1000,
		FloodRate:            1000,
	}
}

// bounded brings the values into the ranges that the protocol allows.
func (c Config) bounded() Config {
	c.MaxFrameSize = min(max(c.MaxFrameSize, minMaxFrame), maxMaxFrame)
	c.StreamWindow = min(c.StreamWindow, maxWindow)
	c.ConnWindow = min(max(c.ConnWindow, initialWindow), maxWindow)
	c.ResetRate = max(c.ResetRate, 1)
	c.FloodRate = max(c.FloodRate, 1)
	c.OutputLimit = max(c.OutputLimit, 1) // 0 would never send a body
	return c
}
