package h1

// Config bounds what one connection may cost. A field that is zero takes
// DefaultConfig's value. It is read by NewServer and NewClient only.
type Config struct {
	// Scheme is the :scheme of requests in server role, and the only one that an
	// absolute-form target may have: "http" or, behind TLS, "https".
	Scheme string

	// PassExpect leaves Expect: 100-continue in requests in server role, for the
	// owner to answer; without it the engine does.
	PassExpect bool

	MaxHeaderBytes  int // a head's size on the wire, start line and line ends included; also of a trailer section
	MaxHeaderFields int // field lines of one head or trailer section
	MaxLineBytes    int // a chunk-size line with its extensions, in bytes
	BodyWindow      int // received body bytes that may wait for Consume before Reading turns false
	OutputLimit     int // bytes of output, taken or not, above which body data waits in its stream
}

// DefaultConfig returns the limits of the data plane's design page.
func DefaultConfig() Config {
	return Config{
		Scheme:          "http",
		MaxHeaderBytes:  64 << 10,
		MaxHeaderFields: 100,
		MaxLineBytes:    256,
		BodyWindow:      64 << 10,
		OutputLimit:     256 << 10,
	}
}

func (c Config) withDefaults() Config {
	d := DefaultConfig()
	if c.Scheme == "" {
		c.Scheme = d.Scheme
	}
	for _, f := range []struct {
		v *int
		d int
	}{
		{&c.MaxHeaderBytes, d.MaxHeaderBytes},
		{&c.MaxHeaderFields, d.MaxHeaderFields},
		{&c.MaxLineBytes, d.MaxLineBytes},
		{&c.BodyWindow, d.BodyWindow},
		{&c.OutputLimit, d.OutputLimit},
	} {
		if *f.v <= 0 {
			*f.v = f.d
		}
	}
	return c
}
