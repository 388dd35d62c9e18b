package h2

// Flood is which bound a peer went over; it stands in the ConnError that ended
// the connection.
type Flood uint8

// The bounds. What each allows stands in Config.
const (
	NoFlood           Flood = iota // the error is of another kind
	FloodPing                      // PING that nothing of ours calls for
	FloodSettings                  // SETTINGS
	FloodPriority                  // PRIORITY
	FloodWindowUpdate              // WINDOW_UPDATE
	FloodEmpty                     // DATA and CONTINUATION without payload, one after the other
	FloodReset                     // streams reset, by the peer or for its errors
	FloodContinuation              // a header block too long, in frames or in bytes
	FloodUnknown                   // frames of unknown type
	FloodGoAway                    // GOAWAY
	FloodClosed                    // frames on streams that are closed
	FloodRefused                   // requests above the limit of streams, before it is known
	FloodInterim                   // 1xx heads
	FloodUnread                    // acknowledgements that the peer asks for and does not read
	SlowHead                       // a frame, header block or preface that does not end
	NoSettingsAck                  // our SETTINGS are not acknowledged
	Floods                         // how many there are, NoFlood included
)

// floodReasons say each in a GOAWAY.
var floodReasons = [Floods]string{
	FloodPing:         "too many PING frames",
	FloodSettings:     "too many SETTINGS frames",
	FloodPriority:     "too many PRIORITY frames",
	FloodWindowUpdate: "too many WINDOW_UPDATE frames",
	FloodEmpty:        "too many frames without payload",
	FloodReset:        "too many streams are reset",
	FloodContinuation: "a header block is too long",
	FloodUnknown:      "too many frames of unknown type",
	FloodGoAway:       "too many GOAWAY frames",
	FloodClosed:       "too many frames on closed streams",
	FloodRefused:      "too many requests above the limit of streams",
	FloodInterim:      "too many interim responses",
	FloodUnread:       "the peer does not read the acknowledgements it asks for",
	SlowHead:          "a frame, a header block or the preface took too long",
	NoSettingsAck:     "SETTINGS were not acknowledged in time",
}

// over ends the connection for going over a bound.
func (c *Conn) over(f Flood) {
	if c.err != nil {
		return
	}
	code := EnhanceYourCalm
	if f == NoSettingsAck {
		code = SettingsTimeout // RFC 9113 section 6.5.3
	}
	c.failFor(f, code, floodReasons[f])
}
