//go:build unix && !linux

package share

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// errUnsupported is why no server can be made here. Everything below says the same.
var errUnsupported = errors.New("this system cannot do it: which process is at the other end, whether it has ended, files in memory " +
	"that nobody can change, and a second description of an open file are told and made by Linux only; run the sidecar there, or without sharing")

// process is a client's.
type process struct {
	pid int32
	uid uint32
}

func peer(*net.UnixConn) (process, error) { return process{}, errUnsupported }

func (p *process) close() {}

func (p *process) ended() bool { return false }

func (p *process) marks() (marks map[fileID]bool, known bool) { return nil, false }

func newMemory(string) (*os.File, error) { return nil, errUnsupported }

func sealMemory(*os.File) error { return errUnsupported }

func reopen(*os.File) (fd int, err error) { return -1, errUnsupported }

// device is the number of the disk that a file is on.
func device(st *unix.Stat_t) uint64 { return uint64(uint32(st.Dev)) } //nolint:unconvert // its type differs between systems
