package secure

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// racy is how old a file's time of change must be for the next change to get
// another one: file systems write whole seconds, FAT two.
const racy = 2 * time.Second

// source is data that may stand in files, and what was seen of these when they
// were read last.
type source struct {
	data    []snapshot.PEM
	watch   string // a directory: what moves into it is the only change
	seen    []fs.FileInfo
	settled bool // a change would be seen
}

// changed reports whether the files may hold something new since read.
func (s *source) changed() bool {
	if !s.settled {
		return true
	}
	for i, now := range s.look() {
		was := s.seen[i]
		if (was == nil) != (now == nil) {
			return true
		}
		if now != nil && (!os.SameFile(was, now) || was.Size() != now.Size() || !was.ModTime().Equal(now.ModTime())) {
			return true
		}
	}
	return false
}

// look returns what there is of the files now; nil for those that cannot be seen.
// Symbolic links are followed, so that it sees a mounted secret's swap.
func (s *source) look() []fs.FileInfo {
	out := make([]fs.FileInfo, 0, 2)
	add := func(path string) {
		info, err := os.Stat(path)
		if err != nil {
			info = nil
		}
		out = append(out, info)
	}
	files := false
	for _, d := range s.data {
		if d.Path == "" {
			continue
		}
		if files = true; s.watch == "" {
			add(d.Path)
		}
	}
	if files && s.watch != "" {
		add(s.watch)
	}
	return out
}

// read returns the data.
func (s *source) read() ([][]byte, error) {
	s.seen, s.settled = s.look(), true
	for _, info := range s.seen {
		if info == nil {
			continue
		}
		age := time.Since(info.ModTime()) //nolint:forbidigo // files are looked at on goroutines of handshakes
		if age > -racy && age < racy {
			s.settled = false
		}
	}
	out := make([][]byte, len(s.data))
	for i, d := range s.data {
		var err error
		if out[i], err = Read(d); err != nil {
			s.settled = false // its permissions may change alone
			return nil, err
		}
	}
	return out, nil
}

var errNoData = errors.New("there is neither a file nor inline data")

// Read returns what d holds.
func Read(d snapshot.PEM) ([]byte, error) {
	switch {
	case d.Path != "":
		return os.ReadFile(d.Path)
	case len(d.Bytes) > 0:
		return d.Bytes, nil
	}
	return nil, errNoData
}

const inline = "given inline"

// origin names a data source without giving away what it holds.
func origin(d snapshot.PEM) string {
	if d.Path != "" {
		return d.Path
	}
	return inline
}
