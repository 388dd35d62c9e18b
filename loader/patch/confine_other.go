//go:build unix && !linux

package patch

import "syscall"

const rssUnit = 1 // ru_maxrss counts bytes on macOS, the only one of these that this runs on

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// confine has no limits to set: elsewhere than on Linux a process can set only its
// own. GOMEMLIMIT and the time limit hold.
func (c *Child) confine(int, *Job, *Header) error { return nil }
