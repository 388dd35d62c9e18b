package xds

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// askWithin bounds one request.
const askWithin = 10 * time.Second

// client asks one request after the other over one HTTP/1.1 connection, which
// it makes anew when the proxy closes it.
type client struct {
	addr string
	conn net.Conn
	read *bufio.Reader
}

// seen is what until saw.
type seen struct {
	at  time.Time // when the answer was complete
	bad int       // answers other than 200, and requests without one
}

// answer is what a request got.
type answer struct {
	status  int
	version string // of the route that answered
	backend string // the backend's body
}

// until asks without a pause until ok likes an answer.
func (c *client) until(ctx context.Context, ok func(answer) bool) (seen, error) {
	var s seen
	var last answer
	for end := time.Now().Add(sampleWithin); time.Now().Before(end) && ctx.Err() == nil; {
		a, err := c.ask(ctx)
		if err == nil && a.status == http.StatusOK && ok(a) {
			s.at = time.Now()
			return s, nil
		}
		if err != nil || a.status != http.StatusOK {
			s.bad++
		}
		last = a
	}
	if err := ctx.Err(); err != nil {
		return s, err
	}
	return s, fmt.Errorf("no request of %v was answered by the new configuration: %+v was last, %d were no 200", sampleWithin, last, s.bad)
}

// ask asks once.
func (c *client) ask(ctx context.Context) (answer, error) {
	if c.conn == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.addr)
		if err != nil {
			return answer{}, err
		}
		c.conn, c.read = conn, bufio.NewReader(conn)
	}
	a, err := c.exchange()
	if err != nil {
		c.close()
	}
	return a, err
}

// exchange sends the request and reads the answer.
func (c *client) exchange() (answer, error) {
	if err := c.conn.SetDeadline(time.Now().Add(askWithin)); err != nil {
		return answer{}, err
	}
	if _, err := io.WriteString(c.conn, "GET "+probePath+" HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
		return answer{}, err
	}
	res, err := http.ReadResponse(c.read, nil)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	if res.Close {
		c.close()
	}
	return answer{res.StatusCode, res.Header.Get(versionHeader), strings.TrimSpace(string(body))}, nil
}

// close closes the connection; the next request opens another one.
func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}
