package h2

import (
	"errors"
	"testing"
)

func TestPrefacePrefix(t *testing.T) {
	for _, c := range []struct {
		in              string
		match, complete bool
	}{
		{"", true, false},
		{"P", true, false},
		{"POST / HTTP/1.1", false, false},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", true, false},
		{Preface, true, true},
		{Preface + "more", true, true},
		{"GET", false, false},
	} {
		if match, complete := PrefacePrefix([]byte(c.in)); match != c.match || complete != c.complete {
			t.Errorf("%q: %v, %v", c.in, match, complete)
		}
	}
}

func TestCodeNames(t *testing.T) {
	for c, want := range map[ErrCode]string{NoError: "NO_ERROR", HTTP11Required: "HTTP_1_1_REQUIRED", 0xe: "0xe", 1<<32 - 1: "0xffffffff"} {
		if got := c.String(); got != want {
			t.Errorf("%d is %s, want %s", uint32(c), got, want)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	for want, err := range map[string]error{
		"h2: stream reset by the peer: CANCEL":                        &StreamError{Code: Cancel, Remote: true},
		"h2: stream lost with its connection: INTERNAL_ERROR: broken": &StreamError{Code: InternalError, ConnLost: true, Reason: "broken"},
		"h2: stream reset here: PROTOCOL_ERROR: bad":                  &StreamError{Code: ProtocolError, Reason: "bad"},
		"h2: connection error FRAME_SIZE_ERROR: long":                 &ConnError{Code: FrameSizeError, Reason: "long"},
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	for i := range 5 {
		if ok := b.take(0, 4, 2); ok != (i < 4) {
			t.Errorf("token %d of 4: %v", i+1, ok)
		}
	}
	if b.take(1e9, 4, 2) != true || b.take(1e9, 4, 2) != false {
		t.Error("a second at 2 a second, one of them owed, gives one token")
	}
	if !b.take(1e12, 4, 2) {
		t.Error("nothing left after a long rest")
	}
}

func TestList(t *testing.T) {
	var s [3]Stream
	l := list{which: readyLinks}
	order := func() (ids []int) {
		for p := l.first; p != nil; p = p.links[readyLinks].next {
			for i := range s {
				if p == &s[i] {
					ids = append(ids, i)
				}
			}
		}
		return ids
	}
	for i := range s {
		l.push(&s[i])
	}
	l.push(&s[0]) // is in it already
	l.remove(&s[1])
	l.remove(&s[1])
	l.push(&s[1])
	if got := order(); len(got) != 3 || got[0] != 0 || got[1] != 2 || got[2] != 1 {
		t.Errorf("order %v", got)
	}
	for i := range s {
		l.remove(&s[i])
	}
	if l.first != nil || l.last != nil {
		t.Error("not empty")
	}
}

func TestClosedIDs(t *testing.T) {
	var k closedIDs
	if k.how(1) != endUnknown {
		t.Error("an unknown id is known")
	}
	for id := uint32(1); id < 2000; id += 2 {
		how := ending(id/2%3) + endClean
		k.add(id, how)
		if k.how(id) != how {
			t.Fatalf("stream %d ended %d, not %d", id, how, k.how(id))
		}
	}
	if k.how(1) != endUnknown {
		t.Error("an id from long ago is known")
	}
}

func TestStreamIDsRunOut(t *testing.T) {
	h := &exchanger{}
	c := NewClient(DefaultConfig(), h)
	c.nextID = maxStreamID
	a, err := c.OpenStream(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.OpenStream(nil)
	if err != nil {
		t.Fatal(err)
	}
	h.reply.Add(":method", "GET")
	a.WriteHead(&h.reply, true)
	b.WriteHead(&h.reply, true)
	if a.ID() != maxStreamID || b.ID() != 0 || c.CanOpen() || c.Active() != 1 {
		t.Errorf("ids %d and %d, %d active", a.ID(), b.ID(), c.Active())
	}
}

// TestReading: heads are not under flow control, so a peer that never reads is
// no longer read from.
func TestReading(t *testing.T) {
	h := &exchanger{}
	c := NewServer(DefaultConfig(), h)
	c.TakeOutput(nil)
	limit := 4*c.cfg.OutputLimit + 64<<10
	c.Backlog(limit - 1)
	if !c.Reading() {
		t.Error("stopped below the limit")
	}
	c.Backlog(limit)
	if c.Reading() {
		t.Error("reads on above the limit")
	}
	c.Backlog(0)
	if !c.Reading() || c.Closing() {
		t.Error("does not read again")
	}
}

// A header block that CONTINUATION ends is progress: what has begun after it has
// all of its own time.
func TestWatchSeesBlocksEnd(t *testing.T) {
	h := &exchanger{}
	p := &pair{client: NewClient(DefaultConfig(), h), server: NewServer(DefaultConfig(), h), chunk: whole}
	p.move(t)
	if _, pending := p.server.Watch(); pending {
		t.Error("something is on its way on a quiet connection")
	}
	feed := func(b ...byte) (mark uint64) {
		t.Helper()
		if err := p.server.Feed(0, b); err != nil {
			t.Fatal(err)
		}
		mark, pending := p.server.Watch()
		if !pending {
			t.Error("nothing is on its way")
		}
		return mark
	}
	began := feed(0, 0, 1, byte(frameHeaders), 0, 0, 0, 0, 1, 0x82)
	if goesOn := feed(0, 0, 1, byte(frameContinuation), 0, 0, 0, 0, 1, 0x84); goesOn != began {
		t.Error("CONTINUATION in the middle of a block is progress")
	}
	if ended := feed(0, 0, 1, byte(frameContinuation), flagEndHeaders, 0, 0, 0, 1, 0x86, 0, 0, 8); ended == began {
		t.Error("the end of a block is no progress")
	}
}

// TestProgress: what the driver's timers look at.
func TestProgress(t *testing.T) {
	h := &exchanger{}
	p := &pair{client: NewClient(DefaultConfig(), h), server: NewServer(DefaultConfig(), h), chunk: whole}
	hello := p.client.TakeOutput(nil)
	if p.server.SettingsReceived() || p.server.SettingsAcked() || !p.server.Partial() || p.client.Partial() {
		t.Error("a fresh connection has progressed")
	}
	if err := p.server.Feed(0, hello[:len(Preface)+5]); err != nil || !p.server.Partial() {
		t.Errorf("half a SETTINGS frame: %v, partial %v", err, p.server.Partial())
	}
	if err := p.server.Feed(0, hello[len(Preface)+5:]); err != nil {
		t.Fatal(err)
	}
	if !p.server.SettingsReceived() || p.server.SettingsAcked() || p.server.Partial() {
		t.Error("SETTINGS arrived whole and unacknowledged")
	}
	p.client.Ping()
	if p.client.PingsOpen() != 1 {
		t.Error("the PING is not open")
	}
	p.move(t)
	if !p.server.SettingsAcked() || !p.client.SettingsAcked() || p.client.PingsOpen() != 0 {
		t.Error("not settled after everything was carried")
	}
	if err := p.server.Feed(0, []byte{0, 0, 1, byte(frameHeaders), 0, 0, 0, 0, 1, 0x82}); err != nil || !p.server.Partial() {
		t.Errorf("a header block without its end: %v, partial %v", err, p.server.Partial())
	}
	p.client.FeedEOF()
	p.client.Ping()
	if err := p.client.Feed(0, []byte{0}); !errors.Is(err, ErrClosed) || p.client.PingsOpen() != 0 {
		t.Errorf("after the end: %v", err)
	}
}
