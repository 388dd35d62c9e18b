package share

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errUnsupported is why no server can be made here: nothing speaks against it.
var errUnsupported error

// device is the number of the disk that a file is on.
func device(st *unix.Stat_t) uint64 { return st.Dev }

// process is a client's.
type process struct {
	pid int32
	uid uint32
	fd  *os.File // a descriptor of the process: its number alone may be given to another one
}

// peer returns the process that connected.
func peer(c *net.UnixConn) (p process, err error) {
	conn, err := c.SyscallConn()
	if err != nil {
		return p, err
	}
	var failed error
	err = conn.Control(func(s uintptr) {
		cred, err := unix.GetsockoptUcred(int(s), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			failed = err
			return
		}
		p.pid, p.uid = cred.Pid, cred.Uid
		if cred.Pid == 0 {
			failed = errors.New("its process cannot be seen from here: let both share a process namespace (in a pod: shareProcessNamespace)")
			return
		}
		fd, err := unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_PEERPIDFD) // Linux 6.5
		if err != nil {
			fd, err = unix.PidfdOpen(int(cred.Pid), 0)
		}
		if err != nil {
			failed = fmt.Errorf("its process: %w", err)
			return
		}
		p.fd = os.NewFile(uintptr(fd), "pid "+strconv.Itoa(int(cred.Pid)))
	})
	return p, errors.Join(err, failed)
}

func (p *process) close() {
	if p.fd != nil {
		p.fd.Close()
	}
}

// ended reports whether the process is over: its descriptor can be read then.
func (p *process) ended() bool {
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return false
	}
	over := false
	_ = conn.Control(func(fd uintptr) { // closed: nobody asks any more
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		over = err == nil && n == 1 && poll[0].Revents&unix.POLLIN != 0
	})
	return over
}

// marks returns the files in memory that the process maps, by what it is told of
// them in /proc; known is false when that may not be read.
func (p *process) marks() (marks map[fileID]bool, known bool) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", p.pid))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	marks = make(map[fileID]bool)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<10) // a path has at most 4 KiB
	for lines.Scan() {
		line := lines.Text()
		if !strings.Contains(line, "/memfd:quadnine") {
			continue
		}
		// proc_pid_maps(5): address perms offset dev inode pathname
		fields := strings.Fields(line)
		if len(fields) < 6 {
			continue
		}
		major, minor, _ := strings.Cut(fields[3], ":")
		hi, err1 := strconv.ParseUint(major, 16, 32)
		lo, err2 := strconv.ParseUint(minor, 16, 32)
		ino, err3 := strconv.ParseUint(fields[4], 10, 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, false
		}
		marks[fileID{unix.Mkdev(uint32(hi), uint32(lo)), ino}] = true
	}
	return marks, lines.Err() == nil
}

// newMemory makes a file in memory that can be sealed, with any bytes.
func newMemory(name string) (*os.File, error) {
	const most = 249 // bytes of a name; memfd_create(2)
	name = name[:min(len(name), most)]
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// sealMemory makes a file's bytes final.
func sealMemory(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		_, failed = unix.FcntlInt(fd, unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	})
	return errors.Join(err, failed)
}

// reopen opens the file that f is once more, for reading, with an open file
// description of its own.
func reopen(f *os.File) (fd int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	err = conn.Control(func(old uintptr) {
		fd, failed = unix.Open(fmt.Sprintf("/proc/self/fd/%d", old), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err := errors.Join(err, failed); err != nil {
		return -1, fmt.Errorf("%s: open once more: %w", f.Name(), err)
	}
	return fd, nil
}
