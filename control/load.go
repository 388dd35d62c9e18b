package control

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/xds/bootstrap"
	"github.com/quadnine/quadnine/xds/compile"
)

const (
	nodesDir = "nodes"  // below it, one directory for each group of nodes
	dataLink = "..data" // what Kubernetes swaps to change all files of a volume at once
	maxFile  = 64 << 20 // bytes; a file of resources is never this long
)

// Loader reads directories. It keeps what it compiled: reading a directory again
// costs what changed in it.
type Loader struct {
	// Strict makes fields without effect and references that lead nowhere errors.
	Strict bool
	// Known are clusters that nodes have by themselves, from their bootstraps.
	Known []string

	compilers map[string]*compile.Compiler // by the name of a group
	before    *Set
}

// Load reads dir, which is valid as a whole or not at all: the error joins all
// that is wrong, each with its file and line.
func (l *Loader) Load(dir string) (*Set, error) {
	files, err := read(dir)
	if err != nil {
		return nil, err
	}
	return l.take(files)
}

// file is a file of a directory.
type file struct {
	name  string // as people find it
	group string
	data  []byte
}

// read reads the files of a directory and of those below it. Of a volume that
// Kubernetes swaps as a whole, all files are of one generation.
func read(dir string) (out []file, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // only read
	var errs []error
	var walk func(at, shown, group string, depth int)
	walk = func(at, shown, group string, depth int) {
		if depth > 8 {
			errs = append(errs, fmt.Errorf("%s: directories are nested too deeply", filepath.Join(dir, shown)))
			return
		}
		if target, err := root.Readlink(path.Join(at, dataLink)); err == nil && filepath.IsLocal(target) {
			at = path.Join(at, target)
		}
		f, err := root.Open(at)
		if err != nil {
			errs = append(errs, err)
			return
		}
		entries, err := f.ReadDir(-1)
		f.Close()
		if err != nil {
			errs = append(errs, err)
		}
		slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		for _, e := range entries {
			name, show := path.Join(at, e.Name()), path.Join(shown, e.Name())
			if strings.HasPrefix(e.Name(), ".") {
				continue
			}
			info, err := root.Stat(name)
			switch {
			case err != nil:
				errs = append(errs, err)
			case info.IsDir() && shown == nodesDir:
				walk(name, show, e.Name(), depth+1)
			case info.IsDir():
				walk(name, show, group, depth+1)
			case !isResourceFile(e.Name()):
			case shown == nodesDir:
				errs = append(errs, fmt.Errorf("%s: stands in %s itself: put it into a directory below, called like a node's id or cluster", filepath.Join(dir, show), nodesDir))
			case info.Size() > maxFile:
				errs = append(errs, fmt.Errorf("%s: is longer than %d MiB", filepath.Join(dir, show), maxFile>>20))
			default:
				data, err := root.ReadFile(name)
				if err != nil {
					errs = append(errs, err)
				}
				out = append(out, file{filepath.Join(dir, show), group, data})
			}
		}
	}
	walk(".", "", "", 0)
	return out, errors.Join(errs...)
}

func isResourceFile(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// Read reads one group of a directory, or a file of resources, without asking
// whether what the resources say is valid.
func Read(path, group string) (*Group, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	var files []file
	if info.IsDir() {
		if files, err = read(path); err != nil {
			return nil, err
		}
	} else {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files = []file{{name: path, data: data}}
	}
	set, errs := parse(files)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	g := set.Group(group)
	if g == nil {
		return nil, fmt.Errorf("%s: has no %s", path, filepath.Join(nodesDir, group))
	}
	if group != "" {
		overlay(g, set.Groups[0])
	}
	return g, nil
}

// parse makes a set of files, of which the groups are not laid over one another
// yet.
func parse(files []file) (set *Set, errs []error) {
	groups := map[string]*Group{"": newGroup("")}
	for _, f := range files {
		if groups[f.group] == nil {
			groups[f.group] = newGroup(f.group)
			if _, err := path.Match(f.group, ""); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s is no pattern: %w", f.name, path.Join(nodesDir, f.group), err))
			}
		}
		parsed, err := bootstrap.Resources(f.name, f.data)
		if err != nil {
			errs = append(errs, err)
		}
		for _, p := range parsed {
			if err := groups[f.group].add(p); err != nil {
				errs = append(errs, err)
			}
		}
	}
	set = new(Set)
	for _, name := range sortedKeys(groups) {
		set.Groups = append(set.Groups, groups[name])
	}
	return set, errs
}

// take makes a Set of files.
func (l *Loader) take(files []file) (*Set, error) {
	set, errs := parse(files)
	errs = append(errs, l.compile(set)...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	for _, g := range set.Groups[1:] {
		overlay(g, set.Groups[0])
	}
	if set.Len() == 0 {
		return nil, errors.New("there is no resource: serving nothing would take everything from every node; a file of resources is called *.yaml, *.yml or *.json")
	}
	for _, g := range set.Groups {
		failures, warnings := check(g, l.Known)
		if l.Strict {
			failures, warnings = append(failures, warnings...), nil
		}
		for _, f := range failures {
			errs = append(errs, errors.New(f))
		}
		set.Warnings = append(set.Warnings, warnings...)
	}
	slices.Sort(set.Warnings)
	set.Warnings = slices.Compact(set.Warnings)
	if len(errs) > 0 {
		return nil, joinOnce(errs)
	}
	l.before = set
	return set, nil
}

// joinOnce joins errors of which some say the same: those of resources that
// several groups share.
func joinOnce(errs []error) error {
	seen := make(map[string]bool)
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool {
		again := seen[err.Error()]
		seen[err.Error()] = true
		return again
	})...)
}

// add puts a resource into a group.
func (g *Group) add(p *bootstrap.Resource) error {
	r, err := newResource(p.Message)
	if err != nil {
		return fmt.Errorf("%s: %w", p.At(""), err)
	}
	r.Where, r.at = p.At(""), p.At
	if other := g.byKind[r.Kind][r.Name]; other != nil {
		return fmt.Errorf("%s: %s %q stands at %s already", r.Where, r.Kind.What(), r.Name, other.Where)
	}
	g.byKind[r.Kind][r.Name] = r
	return nil
}

// newResource returns m as a resource that stands nowhere.
func newResource(m proto.Message) (*Resource, error) {
	kind, ok := kindOfMessage(m)
	if !ok {
		return nil, fmt.Errorf("a %s cannot be served: use a Cluster, ClusterLoadAssignment, Listener, RouteConfiguration, Runtime or Secret",
			m.ProtoReflect().Descriptor().FullName())
	}
	r := &Resource{Kind: kind, Name: cache.GetResourceName(m), Message: m}
	if r.Name == "" {
		return nil, fmt.Errorf("the %s has no name", kind.What())
	}
	body, err := cache.MarshalResource(m)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", kind.What(), r.Name, err)
	}
	r.Body, r.Version = body, cache.HashResource(body)
	return r, nil
}

// overlay gives g what base has and it does not.
func overlay(g, base *Group) {
	for k := range g.byKind {
		all := maps.Clone(base.byKind[k])
		maps.Copy(all, g.byKind[k])
		g.byKind[k] = all
	}
}

// compile compiles what is new in a set, before the groups are laid over one
// another.
func (l *Loader) compile(set *Set) (errs []error) {
	if l.compilers == nil {
		l.compilers = make(map[string]*compile.Compiler)
	}
	for name := range l.compilers {
		if set.Group(name) == nil {
			delete(l.compilers, name)
		}
	}
	for _, g := range set.Groups {
		c := l.compilers[g.Name]
		if c == nil {
			c = compile.New()
			l.compilers[g.Name] = c
		}
		for k := range g.byKind {
			for _, r := range g.Resources(Kind(k)) {
				if old := l.old(g.Name, r); old != nil {
					r.refs = old.refs
				} else if err := r.compile(c); err != nil {
					errs = append(errs, err)
				}
			}
		}
		l.forget(c, g)
	}
	return errs
}

// old returns what was served before and says the same as r, or nil.
func (l *Loader) old(group string, r *Resource) *Resource {
	if l.before == nil {
		return nil
	}
	if g := l.before.Group(group); g != nil {
		if old := g.Get(r.Kind, r.Name); old != nil && old.Version == r.Version {
			return old
		}
	}
	return nil
}

// forget drops what the compiler keeps of resources that are gone.
func (l *Loader) forget(c *compile.Compiler, g *Group) {
	if l.before == nil || l.before.Group(g.Name) == nil {
		return
	}
	for k, m := range l.before.Group(g.Name).byKind {
		for name := range m {
			if g.byKind[k][name] != nil {
				continue
			}
			switch Kind(k) {
			case Clusters:
				c.ForgetCluster(name)
			case Endpoints:
				c.ForgetAssignment(name)
			case Listeners:
				c.ForgetListener(name)
			case Routes:
				c.Forget(name)
			case Secrets:
				c.ForgetSecret(name)
			case Runtime, kinds:
			}
		}
	}
}
