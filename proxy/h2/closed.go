package h2

import "slices"

// ending is how a stream ended.
type ending uint8

const (
	endUnknown   ending = iota
	endClean            // END_STREAM both ways
	endPeerReset        // RST_STREAM or GOAWAY from the peer
	endReset            // RST_STREAM from us
	endLost             // with its connection
)

// closedIDs remembers how the server role's last streams ended. After a reset of
// ours frames may still be in flight (RFC 9113 section 5.1), so those are kept
// longer; of the others only the right error code depends.
type closedIDs struct {
	resets  [128]uint32
	others  [32]uint32 // the id's 31 bits, and bit 0 set for a clean end
	nextRst uint8
	nextOth uint8
}

func (k *closedIDs) add(id uint32, how ending) {
	switch how {
	case endReset:
		k.resets[k.nextRst%uint8(len(k.resets))] = id
		k.nextRst++
	case endClean, endPeerReset:
		id <<= 1
		if how == endClean {
			id |= 1
		}
		k.others[k.nextOth%uint8(len(k.others))] = id
		k.nextOth++
	}
}

func (k *closedIDs) how(id uint32) ending {
	if slices.Contains(k.resets[:], id) {
		return endReset
	}
	for _, o := range k.others[:] {
		switch o {
		case id<<1 | 1:
			return endClean
		case id << 1:
			return endPeerReset
		}
	}
	return endUnknown
}
