package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Group is a control group with a memory limit.
type Group struct {
	limit    int64
	dir      string
	current  string   // file of dir
	fileKeys []string // of memory.stat: pages of files
}

// Memory returns the group with the lowest memory limit among the process's own
// and those above it, nil when none has one. root is "/", or in tests a directory
// with /proc and /sys.
func Memory(root string) *Group {
	b, err := os.ReadFile(filepath.Join(root, "proc", "self", "cgroup"))
	if err != nil {
		return nil
	}
	var lowest *Group
	for line := range strings.Lines(string(b)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		base, most := filepath.Join(root, "sys", "fs", "cgroup"), "memory.max"
		g := Group{current: "memory.current", fileKeys: []string{"active_file", "inactive_file"}}
		switch {
		case part[0] == "0" && part[1] == "":
		case part[1] == "memory":
			base, most = filepath.Join(base, "memory"), "memory.limit_in_bytes"
			g = Group{current: "memory.usage_in_bytes", fileKeys: []string{"total_active_file", "total_inactive_file"}}
		default:
			continue
		}
		// A container may see its group as the root, or the host's path to it.
		for dir := filepath.Clean("/" + part[2]); ; dir = filepath.Dir(dir) {
			g := g
			g.dir = filepath.Join(base, dir)
			n, err := number(filepath.Join(g.dir, most))
			if g.limit = n; err == nil && n < 1<<60 && (lowest == nil || n < lowest.limit) {
				lowest = &g
			}
			if dir == "/" {
				break
			}
		}
	}
	return lowest
}

// Limit returns the bytes that the group may take.
func (g *Group) Limit() int64 { return g.limit }

// Used returns the bytes that the group takes, pages of files included; 0 for a
// group that is gone.
func (g *Group) Used() int64 {
	n, _ := number(filepath.Join(g.dir, g.current))
	return n
}

// Fixed returns what of Used the kernel cannot take back by dropping pages of
// files.
func (g *Group) Fixed() int64 {
	n := g.Used()
	b, err := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
	if err != nil {
		return n
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, k := range g.fileKeys {
			if v, err := strconv.ParseInt(value, 10, 64); err == nil && name == k {
				n -= v
			}
		}
	}
	return max(n, 0)
}

// number reads a file with one number; "max" is none.
func number(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	s := strings.TrimSpace(string(b))
	if s == "max" {
		return 0, errors.New("no limit")
	}
	return strconv.ParseInt(s, 10, 64)
}
