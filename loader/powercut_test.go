package loader

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// step is one thing that was done to a disk, and can be undone by a power cut
// until what it was done to is synced.
type step struct {
	kind     stepKind
	node     int    // the file or directory that was written, made, moved or removed
	dir      int    // where its name is made or taken away
	name     string // in dir
	from     int    // of a move: the directory that it left, and its name there
	fromName string
	data     []byte
	off      int    // of data in the file
	what     string // for people
}

type stepKind uint8

const (
	makeDir stepKind = iota
	makeFile
	empty // an existing file
	write
	move
	unlink
	syncNode
)

// claim says what must hold from a step on.
type claim struct {
	at      int
	serve   []uint64 // versions of which one answers; 0: none
	refused []uint64 // that were acknowledged
	what    string
}

// journal is a volume that writes down what is done to the disk below a root, as
// well as doing it.
type journal struct {
	real volume
	root string
	deaf func(path string) bool // what it forgets to sync

	mu    sync.Mutex
	steps []step
	marks []claim
	nodes map[string]int // by path, as it is now
	next  int
}

func newJournal(root string) *journal {
	return &journal{real: osVolume(), root: root, nodes: map[string]int{"": 0}, next: 1}
}

func (j *journal) rel(name string) string {
	r, err := filepath.Rel(j.root, name)
	if err != nil || strings.HasPrefix(r, "..") {
		panic(name + " is not below " + j.root)
	}
	if r == "." {
		return ""
	}
	return r
}

func split(path string) (dir, name string) {
	dir, name = filepath.Split(path)
	return strings.TrimSuffix(dir, "/"), name
}

// add notes a step. j.mu is held.
func (j *journal) add(s step) { j.steps = append(j.steps, s) }

func (j *journal) volume() volume {
	return volume{create: j.create, mkdirAll: j.mkdirAll, rename: j.rename, removeAll: j.removeAll, syncPath: j.syncPath, allocate: allocate}
}

func (j *journal) create(name string) (file, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f, err := j.real.create(name)
	if err != nil {
		return f, err
	}
	p := j.rel(name)
	n, ok := j.nodes[p]
	if ok {
		j.add(step{kind: empty, node: n, what: "empty " + p})
	} else {
		n = j.next
		j.next++
		dir, base := split(p)
		j.add(step{kind: makeFile, node: n, dir: j.nodes[dir], name: base, what: "create " + p})
		j.nodes[p] = n
	}
	return &journaled{f, j, n, 0, p}, nil
}

type journaled struct {
	file

	j    *journal
	node int
	off  int
	path string
}

func (f *journaled) Write(p []byte) (int, error) {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	n, err := f.file.Write(p)
	if n == 0 {
		return n, err
	}
	f.j.add(step{kind: write, node: f.node, data: bytes.Clone(p[:n]), off: f.off, what: fmt.Sprintf("write %d bytes of %s", n, f.path)})
	f.off += n
	return n, err
}

func (f *journaled) Sync() error {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	if !f.j.deaf(f.path) {
		f.j.add(step{kind: syncNode, node: f.node, what: "sync " + f.path})
	}
	return nil
}

func (j *journal) mkdirAll(name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.rel(name)
	if err := j.real.mkdirAll(name); err != nil {
		return err
	}
	at := ""
	for part := range strings.SplitSeq(p, "/") {
		dir := at
		at = strings.TrimPrefix(at+"/"+part, "/")
		if _, ok := j.nodes[at]; !ok && part != "" {
			j.nodes[at] = j.next
			j.add(step{kind: makeDir, node: j.next, dir: j.nodes[dir], name: part, what: "mkdir " + at})
			j.next++
		}
	}
	return nil
}

// below lists the paths at and below p, deepest first. j.mu is held.
func (j *journal) below(p string) (out []string) {
	for q := range j.nodes {
		if q == p || strings.HasPrefix(q, p+"/") {
			out = append(out, q)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(b, a) })
	return out
}

func (j *journal) rename(from, to string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.real.rename(from, to); err != nil {
		return err
	}
	a, b := j.rel(from), j.rel(to)
	fromDir, fromName := split(a)
	dir, name := split(b)
	j.add(step{kind: move, node: j.nodes[a], dir: j.nodes[dir], name: name, from: j.nodes[fromDir], fromName: fromName, what: "rename " + a + " " + b})
	for _, q := range j.below(b) {
		delete(j.nodes, q)
	}
	for _, q := range j.below(a) {
		j.nodes[b+strings.TrimPrefix(q, a)] = j.nodes[q]
		delete(j.nodes, q)
	}
	return nil
}

func (j *journal) removeAll(name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.real.removeAll(name); err != nil {
		return err
	}
	for _, q := range j.below(j.rel(name)) {
		dir, base := split(q)
		j.add(step{kind: unlink, node: j.nodes[q], dir: j.nodes[dir], name: base, what: "remove " + q})
		delete(j.nodes, q)
	}
	return nil
}

func (j *journal) syncPath(name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := os.Stat(name); err != nil {
		return err
	}
	p := j.rel(name)
	if !j.deaf(p) {
		j.add(step{kind: syncNode, node: j.nodes[p], what: "sync " + p})
	}
	return nil
}

// mark notes what must hold from now on.
func (j *journal) mark(what string, serve, refused []uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.marks = append(j.marks, claim{len(j.steps), serve, refused, what})
}

// undone returns which of the first n steps a power cut could undo after them:
// bytes that were not synced, and names in directories that were not. A move is
// one step, on disk once both directories are.
func (j *journal) undone(n int) (out []int) {
	type half struct{ i, node int }
	var open []half
	for i, s := range j.steps[:n] {
		switch s.kind {
		case write, empty:
			open = append(open, half{i, s.node})
		case makeDir, makeFile, unlink:
			open = append(open, half{i, s.dir})
		case move:
			open = append(open, half{i, s.dir})
			if s.from != s.dir {
				open = append(open, half{i, s.from})
			}
		case syncNode:
			open = slices.DeleteFunc(open, func(h half) bool { return h.node == s.node })
		}
	}
	for _, h := range open {
		out = append(out, h.i)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// image of a disk: what each path holds; directories end with a slash.
type diskImage map[string][]byte

// after returns the disk after the first n steps but for those that lost names.
func (j *journal) after(n int, lost map[int]bool) diskImage {
	dirs := map[int]map[string]int{0: {}}
	bytesOf := make(map[int][]byte)
	for i, s := range j.steps[:n] {
		if lost[i] {
			if s.kind == makeDir { // its node is there all the same, for a move of what is in it
				dirs[s.node] = map[string]int{}
			}
			continue
		}
		switch s.kind {
		case makeDir:
			if dirs[s.node] == nil {
				dirs[s.node] = map[string]int{}
			}
			dirs[s.dir][s.name] = s.node
		case makeFile:
			dirs[s.dir][s.name] = s.node
		case empty:
			bytesOf[s.node] = nil
		case write:
			b := make([]byte, max(len(bytesOf[s.node]), s.off+len(s.data))) // zeros where a write was lost
			copy(b, bytesOf[s.node])
			copy(b[s.off:], s.data)
			bytesOf[s.node] = b
		case move:
			if dirs[s.from][s.fromName] == s.node {
				delete(dirs[s.from], s.fromName)
				dirs[s.dir][s.name] = s.node
			}
		case unlink:
			if dirs[s.dir][s.name] == s.node {
				delete(dirs[s.dir], s.name)
			}
		}
	}
	out := make(diskImage)
	var walk func(path string, node int)
	walk = func(path string, node int) {
		for name, n := range dirs[node] {
			if _, isDir := dirs[n]; isDir {
				out[path+name+"/"] = nil
				walk(path+name+"/", n)
			} else {
				out[path+name] = bytesOf[n]
			}
		}
	}
	walk("", 0)
	return out
}

// sum tells one image of a disk from another.
func (d diskImage) sum() uint64 {
	h := fnv.New64a()
	for _, p := range slices.Sorted(maps.Keys(d)) {
		fmt.Fprintf(h, "%s %d ", p, len(d[p]))
		_, _ = h.Write(d[p])
	}
	return h.Sum64()
}

// put writes an image of a disk to a directory.
func (d diskImage) put(dir string) error {
	for _, p := range slices.Sorted(maps.Keys(d)) {
		name := filepath.Join(dir, p)
		var err error
		if strings.HasSuffix(p, "/") {
			err = os.MkdirAll(name, 0o755)
		} else {
			err = os.WriteFile(name, d[p], 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
