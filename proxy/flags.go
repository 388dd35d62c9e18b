package proxy

// flags are what went wrong with an exchange, as access logs tell it. The order
// is the one in which Envoy writes them.
type flags uint32

// The flags. Envoy has more; these can happen here.
const (
	noHealthyUpstream         flags = 1 << iota // UH
	upstreamTimeout                             // UT
	localReset                                  // LR
	upstreamRemoteReset                         // UR
	upstreamConnectionFailure                   // UF
	upstreamConnectionEnd                       // UC
	upstreamOverflow                            // UO
	noRouteFound                                // NR
	downstreamConnectionEnd                     // DC
	retryLimitExceeded                          // URX
	streamIdleTimeout                           // SI
	downstreamProtocolError                     // DPE
	responseFromCache                           // RFCF
	upstreamProtocolError                       // UPE
	noClusterFound                              // NC
	downstreamRemoteReset                       // DR
	overloadManager                             // OM
)

var flagNames = [...]string{"UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DC", "URX", "SI", "DPE", "RFCF", "UPE", "NC", "DR", "OM"}

// appendTo appends the names, with commas between them, or "-".
func (f flags) appendTo(dst []byte) []byte {
	if f == 0 {
		return append(dst, '-')
	}
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			dst = append(dst, name...)
			if f >>= i; f != 1 {
				dst = append(dst, ',')
			}
			f = (f &^ 1) << i
		}
	}
	return dst
}

// flagsNamed returns the flags called names; names of flags that cannot happen
// here are left out.
func flagsNamed(names []string) (f flags) {
	for _, name := range names {
		for i, n := range flagNames {
			if n == name {
				f |= 1 << i
			}
		}
	}
	return f
}
