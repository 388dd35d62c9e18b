package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Frame is one frame as it came.
type Frame struct {
	Type  Type
	Body  []byte     // good until the next one is read
	Files []*os.File // of a Files frame; the reader's to close
}

// Conn is a connection of the client's: it takes descriptors. Make one with
// NewConn.
type Conn struct {
	c     *net.UnixConn
	buf   []byte
	have  []byte // of buf: read and not yet parsed
	oob   []byte
	files []*os.File // that came and were not asked for yet
}

// NewConn returns a Conn over c.
func NewConn(c *net.UnixConn) *Conn {
	return &Conn{c: c, buf: make([]byte, 64<<10), oob: make([]byte, unix.CmsgSpace(MaxFiles*4))}
}

// Send writes frames.
func (c *Conn) Send(b []byte) error {
	_, err := c.c.Write(b)
	return err
}

// Close ends the connection and closes the descriptors that nobody took.
func (c *Conn) Close() error {
	for _, f := range c.files {
		f.Close()
	}
	c.files = nil
	return c.c.Close()
}

// Next reads the next frame. io.EOF is the end between two frames.
func (c *Conn) Next() (Frame, error) {
	if err := c.need(HeaderSize); err != nil {
		return Frame{}, err
	}
	h, err := ParseHeader(c.have, MaxBody)
	if err != nil {
		return Frame{}, err
	}
	if err := c.need(HeaderSize + h.Len); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	f := Frame{Type: h.Type, Body: c.have[HeaderSize : HeaderSize+h.Len]}
	c.have = c.have[HeaderSize+h.Len:]
	if f.Type != TypeFiles {
		return f, nil
	}
	n, err := ParseFiles(f.Body)
	if err != nil {
		return Frame{}, err
	}
	if n > len(c.files) { // they come with the frame's first byte
		return Frame{}, malformed("FILES: %d descriptors came, the frame says %d: is the limit of open files reached?", len(c.files), n)
	}
	f.Files, c.files = c.files[:n:n], c.files[n:]
	return f, nil
}

// need reads until n bytes are there.
func (c *Conn) need(n int) error {
	if n > len(c.buf) {
		grown := make([]byte, n)
		c.have = grown[:copy(grown, c.have)]
		c.buf = grown
	} else if len(c.have) < n {
		c.have = c.buf[:copy(c.buf, c.have)]
	}
	for len(c.have) < n {
		m, oobn, flags, _, err := c.c.ReadMsgUnix(c.buf[len(c.have):], c.oob)
		if oobn > 0 {
			if err := c.take(c.oob[:oobn]); err != nil {
				return err
			}
		}
		if flags&unix.MSG_CTRUNC != 0 {
			return malformed("descriptors were lost: is the limit of open files reached?")
		}
		if err != nil {
			return err
		}
		if m == 0 {
			if len(c.have) > 0 {
				return io.ErrUnexpectedEOF
			}
			return io.EOF
		}
		c.have = c.buf[:len(c.have)+m]
	}
	return nil
}

// take keeps the descriptors that came with a message.
func (c *Conn) take(oob []byte) error {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("wire: control message: %w", err)
	}
	for i := range list {
		fds, err := unix.ParseUnixRights(&list[i])
		if err != nil {
			return fmt.Errorf("wire: control message: %w", err)
		}
		for _, fd := range fds {
			c.files = append(c.files, os.NewFile(uintptr(fd), "version's file"))
		}
	}
	return nil
}

// ReadAsk reads a client's frame from r: it takes no descriptors. buf must hold
// HeaderSize and MaxAsk bytes; the body is part of it.
func ReadAsk(r io.Reader, buf []byte) (Type, []byte, error) {
	if _, err := io.ReadFull(r, buf[:HeaderSize]); err != nil {
		return 0, nil, err
	}
	h, err := ParseHeader(buf, MaxAsk)
	if err != nil {
		return 0, nil, err
	}
	body := buf[HeaderSize : HeaderSize+h.Len]
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return h.Type, body, nil
}

// SendFiles writes a Files frame with these descriptors, at most MaxFiles, to a
// client. They stay open here.
func SendFiles(c *net.UnixConn, fds []int) error {
	b := AppendFiles(nil, len(fds))
	n, _, err := c.WriteMsgUnix(b, unix.UnixRights(fds...), nil)
	if err == nil && n < len(b) {
		_, err = c.Write(b[n:])
	}
	return err
}
