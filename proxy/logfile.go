package proxy

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// The bounds of what waits to be written to one file: blocks that the writer
// has, and bytes that a loop gathers meanwhile. What is beyond is dropped.
const (
	logBlocks = 16
	logBlock  = 64 << 10
)

// logFiles are the files of access logs, opened with their listener, or when the
// first line goes to them, and kept open: rotate them by copying and truncating.
type logFiles struct {
	log  *slog.Logger
	tel  *telemetry.Registry
	done sync.WaitGroup

	mu     sync.Mutex
	files  map[string]*logFile // guarded by mu
	closed bool                // guarded by mu
}

// logFile is written by one goroutine.
type logFile struct {
	path  string
	in    chan []byte
	spare chan []byte
	taken bool // a loop writes to it; guarded by logFiles.mu
}

// open opens the files of a listener's logs before there is a line for them, so
// that what cannot be written to is refused with the listener.
func (f *logFiles) open(logs []*snapshot.AccessLog) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range logs {
		if f.closed || f.files[a.Path] != nil {
			continue
		}
		w, err := openLog(a.Path)
		if err != nil {
			return fmt.Errorf("cannot write access log: %w", err) // the path is in it
		}
		f.begin(a.Path, w)
	}
	return nil
}

// keep closes the files that open opened for listeners that came to nothing.
func (f *logFiles) keep(listeners []*snapshot.Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	for path, l := range f.files {
		if !l.taken && !slices.ContainsFunc(listeners, func(l *snapshot.Listener) bool {
			for face := range l.Faces {
				if slices.ContainsFunc(face.HTTP.AccessLogs, func(a *snapshot.AccessLog) bool { return a.Path == path }) {
					return true
				}
			}
			return false
		}) {
			delete(f.files, path)
			close(l.in)
		}
	}
}

// file returns the file at path, whose writer runs.
func (f *logFiles) file(path string) *logFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.files[path]
	if l == nil {
		l = f.begin(path, nil)
	}
	l.taken = true
	return l
}

// begin starts path's writer; a nil w is for it to open. f.mu is held.
func (f *logFiles) begin(path string, w io.Writer) *logFile {
	l := &logFile{path: path, in: make(chan []byte, logBlocks), spare: make(chan []byte, logBlocks+1)}
	if f.files == nil {
		f.files = make(map[string]*logFile)
	}
	f.files[path] = l
	if !f.closed {
		f.done.Go(func() { f.run(l, w) })
	}
	return l
}

// run writes what comes until close. Nothing that goes wrong here reaches a
// request.
func (f *logFiles) run(l *logFile, w io.Writer) {
	failed := false
	if w == nil {
		var err error
		if w, err = openLog(l.path); err != nil {
			f.log.Error("access log cannot be opened: its lines are dropped", "path", l.path, "err", err)
			failed = true
		}
	}
	for b := range l.in {
		if w == nil {
			f.tel.Count(telemetry.AccessLogDrops, uint64(bytes.Count(b, []byte("\n"))))
		} else if _, err := w.Write(b); err != nil {
			f.tel.Count(telemetry.AccessLogDrops, uint64(bytes.Count(b, []byte("\n"))))
			if !failed {
				f.log.Error("writing an access log failed: lines are lost until it succeeds", "path", l.path, "err", err)
			}
			failed = true
		} else {
			failed = false
		}
		select {
		case l.spare <- b[:0]:
		default:
		}
	}
	if c, ok := w.(io.Closer); ok && w != os.Stdout && w != os.Stderr {
		if err := c.Close(); err != nil {
			f.log.Error("closing an access log failed", "path", l.path, "err", err)
		}
	}
}

// openLog opens path for appending. The standard streams are the process's own:
// opening /dev/stdout anew fails where it is a socket.
func openLog(path string) (io.Writer, error) {
	switch path {
	case "/dev/stdout":
		return os.Stdout, nil
	case "/dev/stderr":
		return os.Stderr, nil
	}
	access := os.O_WRONLY
	if fi, err := os.Stat(path); err == nil && fi.Mode()&os.ModeNamedPipe != 0 {
		access = os.O_RDWR // opening a pipe for writing alone waits for a reader
	}
	w, err := os.OpenFile(path, access|os.O_APPEND|os.O_CREATE, 0o644) //nolint:gosec // logs are for others to read, at the path that is configured
	if err != nil {
		return nil, err
	}
	return w, nil
}

// close writes what waits and closes all files. Loops must have stopped.
func (f *logFiles) close() {
	f.mu.Lock()
	closed := f.closed
	f.closed = true
	if !closed {
		for _, l := range f.files {
			close(l.in)
		}
	}
	f.mu.Unlock()
	f.done.Wait()
}

// logLines is what one loop has gathered for one file.
type logLines struct {
	file    *logFile
	pending []byte
	listed  bool // among the loop's gathered ones
}

// linesTo returns what l writes to path with.
func (l *loop) linesTo(path string) *logLines {
	n := l.files[path]
	if n == nil {
		n = &logLines{file: l.server.files.file(path)}
		l.files[path] = n
	}
	return n
}

// write gathers a line. It is handed over at the end of the wake-up.
func (n *logLines) write(l *loop, line []byte) {
	if len(n.pending)+len(line) > logBlock {
		n.hand()
		if len(n.pending) > 0 { // the writer is behind
			l.tel.Count(telemetry.AccessLogDrops, 1)
			return
		}
	}
	n.pending = append(n.pending, line...)
	if !n.listed {
		n.listed = true
		l.gathered = append(l.gathered, n)
	}
}

// hand gives what is gathered to the writer, if that has room.
func (n *logLines) hand() {
	if len(n.pending) == 0 {
		return
	}
	select {
	case n.file.in <- n.pending:
		select {
		case n.pending = <-n.file.spare:
		default:
			n.pending = nil
		}
	default:
	}
}

// handLines hands over what this wake-up logged.
func (l *loop) handLines() {
	kept := l.gathered[:0]
	for _, n := range l.gathered {
		n.hand()
		if n.listed = len(n.pending) > 0; n.listed {
			kept = append(kept, n) // with the next wake-up
		}
	}
	l.gathered = kept
	if len(kept) > 0 && !l.logTimer.Armed() {
		l.shard.Arm(&l.logTimer, l.shard.Now()+int64(logRetry))
	}
}

// logRetry is when a loop looks again whether a writer that was behind has room.
const logRetry = 100 * time.Millisecond

// logTick is a loop as that timer sees it: the wake-up alone does it.
type logTick loop

// Expire does nothing more.
func (*logTick) Expire(*shard.Timer, int64) {}
