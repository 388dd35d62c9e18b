package xds

import "time"

// StreamStatus is how a client's stream is doing.
type StreamStatus struct {
	Variant   string       `json:"variant"`
	Server    string       `json:"server"`    // the one in use, or that is tried
	Fallback  bool         `json:"fallback"`  // it is not the first
	Connected bool         `json:"connected"` // a stream is open
	Since     time.Time    `json:"since"`     // it is open, or nothing is
	Responded bool         `json:"responded"` // the stream had a response
	Tries     int          `json:"tries"`     // since the last response, that failed
	Err       error        `json:"-"`         // why the last of them did
	Why       string       `json:"error,omitempty"`
	Kinds     []KindStatus `json:"apis"` // those asked for, since the stream was opened
}

// KindStatus is what one kind's part of a stream is doing.
type KindStatus struct {
	Kind       Kind   `json:"api"`
	Subscribed int    `json:"subscribed,omitempty"` // names; 0 if all are asked for
	Waiting    int    `json:"waiting,omitempty"`    // names that no server answered for yet
	Version    string `json:"version,omitempty"`    // of the last response that was accepted whole
	Nack       string `json:"nack,omitempty"`       // what was wrong with the newest response; "": nothing

	Responses int `json:"responses"`
	Acks      int `json:"acks"`
	Nacks     int `json:"nacks"`
	Held      int `json:"nacks_held,omitempty"` // that were held back because they were too many
	Repeated  int `json:"repeated,omitempty"`   // responses that were known to be rejected, and not validated again
	Unasked   int `json:"unasked,omitempty"`    // resources that nobody asked for

	Received time.Time `json:"received,omitzero"` // last
	Acked    time.Time `json:"acked,omitzero"`
	Nacked   time.Time `json:"nacked,omitzero"`
}

// Status returns how the stream is doing. It may be called from any goroutine;
// what it returns is not changed.
func (c *Client) Status() *StreamStatus { return c.status.Load() }

// publish makes the status visible.
func (c *Client) publish() {
	s := &c.servers[c.reach]
	st := &StreamStatus{Variant: c.o.Variant, Server: c.o.Servers[c.reach].Name, Fallback: c.reach > 0, Since: c.down, Tries: s.tries, Err: c.last}
	if c.last != nil {
		st.Why = c.last.Error()
	}
	if l := s.link; l != nil && l.session != nil && !s.closing {
		st.Connected, st.Since, st.Responded = true, l.opened, l.responded
		for k := range l.session.topics {
			t := &l.session.topics[k]
			if !t.open {
				continue
			}
			t.Subscribed, t.Waiting = len(t.names), len(t.waits)
			st.Kinds = append(st.Kinds, t.KindStatus)
		}
	}
	c.status.Store(st)
}
