package quadnine_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/quadnine/quadnine"

// arrows says which rooms a room may import; "" is the root package and
// "room/..." a room with what is below it. A room that is missing here fails the
// test: draw its arrows first. Arrows are direct imports of code that is not a
// test; the reason stands beside each.
var arrows = map[string]struct {
	to  []string
	why string
}{
	"":                           {nil, "the nouns import the standard library only, so that everybody may import them"},
	"policy":                     {[]string{""}, "decisions are pure: no sockets, no files, no metrics"},
	"snapshot":                   {[]string{"", "policy"}, "the configuration does not know who reads it"},
	"telemetry":                  {[]string{""}, "instruments do not know what they measure"},
	"console":                    {[]string{"", "telemetry"}, "admin pages see the data plane through small read-only views that cmd passes in"},
	"secure":                     {[]string{"snapshot"}, "certificates and who is believed; connections are somebody else's"},
	"proxy/tlsconn":              {[]string{"proxy/shard", "internal/bufpool"}, "TLS between a driver and an engine, whatever that speaks"},
	"proxy/field":                {[]string{"internal/invariant"}, "bytes and spans: both engines share it"},
	"proxy/h1":                   {[]string{"", "proxy/field", "internal/bufpool", "internal/invariant"}, "an engine is sans-I/O: its driver and its owner are somebody else's"},
	"proxy/h2":                   {[]string{"", "proxy/field", "internal/bufpool", "internal/invariant"}, "an engine is sans-I/O: its driver and its owner are somebody else's"},
	"proxy/shard":                {[]string{"internal/bufpool"}, "a loop drives any engine and knows none"},
	"proxy/upstream":             {[]string{"snapshot", "secure", "proxy/tlsconn", "proxy/shard", "proxy/h1", "proxy/h2", "proxy/field"}, "upstream finds streams; what a request means is proxy's"},
	"proxy":                      {[]string{"", "policy", "snapshot", "secure", "telemetry", "proxy/tlsconn", "proxy/shard", "proxy/h2", "proxy/h1", "proxy/upstream", "proxy/field", "internal/invariant", "internal/bufpool"}, "the pipeline; cmd introduces it to console, xds and loader"},
	"xds":                        {[]string{"snapshot", "secure", "xds/compile", "xds/bootstrap", "xds/api/..."}, "the data plane and the admin port come through small interfaces"},
	"xds/compile":                {[]string{"snapshot", "policy", "xds/api/..."}, "bytes in, parts of a snapshot out"},
	"xds/bootstrap":              {[]string{"xds/api/..."}, "reads a file; who runs by it decides the rest"},
	"xds/api":                    {nil, "generated, with their descriptors"},
	"xds/api/quadnine/policy/v1": {nil, "generated"},
	"xds/api/quadnine/model/v1":  {nil, "generated"},
	"xds/api/quadnine/xds/v1":    {nil, "generated"},
	"xds/evidence":               {[]string{"policy", "xds/api/..."}, "what trials have shown, to a management server: evidence is policy's, the trials are somebody else's"},
	"control":                    {[]string{"policy", "snapshot", "xds/compile", "xds/bootstrap", "xds/api/..."}, "a management server speaks to sidecars over gRPC only; of them it shares the compiler, to refuse what they would"},
	"cmd/quadnine": {[]string{
		"", "xds", "xds/compile", "xds/bootstrap", "xds/evidence", "control", "policy", "snapshot", "secure", "telemetry", "console", "proxy", "proxy/field", "proxy/h1", "proxy/h2", "proxy/shard", "proxy/upstream", "examples/statsapp", "loader", "loader/delta", "loader/oci", "loader/modelsign", "loader/patch", "loader/objects", "loader/share", "loader/model", "loader/model/lightgbm", "loader/model/trees", "internal/cgroup",
	}, "wiring: anything but bench and conformance, which drive the built binary, and testkit"},
	"examples/statsapp":              {[]string{"examples/statsapp/..."}, "an example shows what somebody else's service would import"},
	"examples/statsapp/statsv1":      {[]string{"examples/statsapp/..."}, "an example shows what somebody else's service would import"},
	"examples/statsapp/cmd/statsapp": {[]string{"examples/statsapp", "examples/statsapp/..."}, "an example shows what somebody else's service would import"},
	"internal/mmap":                  {nil, "the only place with unsafe knows nothing of what it maps"},
	"loader":                         {[]string{"", "telemetry", "loader/delta", "loader/oci", "loader/modelsign", "internal/mmap", "loader/patch", "internal/cgroup"}, "versions on disk; who asks for them and who judges them comes through small interfaces"},
	"loader/share":                   {[]string{"loader", "loader/wire", "internal/mmap"}, "shows what the loader has to other processes, through the loader's own interface"},
	"loader/client":                  {[]string{"loader/wire", "loader/delta", "internal/mmap"}, "runs in somebody else's process: it knows the protocol and the formats, nothing of the sidecar"},
	"loader/wire":                    {nil, "a protocol: both sides import it"},
	"loader/delta":                   {nil, "pure bytes: what a file means does not depend on who reads it"},
	"loader/modelsign":               {nil, "pure bytes: what was signed; which files there are, others know"},
	"loader/oci":                     {[]string{"loader/delta"}, "pure bytes: another form of the same drop"},
	"loader/objects":                 {[]string{"loader", "loader/delta"}, "a source and a store of drops; the loader does not know where they come from"},
	"loader/model":                   {[]string{"loader/model/trees", "loader/model/wasm"}, "evaluation over bytes: it does not know where they are mapped"},
	"loader/model/trees":             {nil, "a layout and how it is walked; who makes one is an importer's"},
	"loader/model/lightgbm":          {[]string{"loader/model/trees"}, "a text in, a forest out"},
	"loader/model/wasm":              {nil, "a guest is given bytes and numbers, and nothing else"},
	"loader/patch":                   {[]string{"loader/delta"}, "one program's child: it knows formats and limits, not the life of versions"},
	"internal/testkit":               {[]string{""}, "help for tests of every room can depend on none of them"},
	"internal/bufpool":               {[]string{"internal/invariant"}, "buffers do not know what is in them"},
	"internal/cgroup":                {nil, "what the kernel says does not depend on who asks"},
	"internal/invariant":             {nil, "a check that every room may make can depend on none of them"},
}

// fences are imports that only some rooms may have.
var fences = []struct {
	path  string // with what is below it
	rooms []string
	why   string
}{
	{"golang.org/x/net/http2", []string{"proxy/h2"}, "its Server and Transport are deprecated and its types must not leak: ask proxy/h2"},
	{"unsafe", []string{"internal/mmap", "proxy/h2"}, "memory safety is argued for in two places only"},
	{module + "/cmd", nil, "cmd is wiring: move what you need into a room"},
	{module + "/internal/testkit", nil, "help for tests stays in _test.go files"},
	{module + "/bench", nil, "a module of its own, so that rivals stay out of our go.mod"},
	{module + "/conformance", nil, "a module of its own, so that drivers stay out of our go.mod"},
}

// clock lists who of the data plane may read the clock, by file or folder. All
// others take time as a value: it is read once per wake-up, and a test in fake
// time reaches everything.
var clock = []string{"proxy/server.go", "proxy/views.go", "proxy/overload.go", "proxy/shard/"}

// timeless are the rooms that clock is about.
var timeless = []string{"proxy", "proxy/field", "proxy/h1", "proxy/h2", "proxy/shard", "proxy/upstream", "policy"}

// source is one parsed Go file that is not a test.
type source struct {
	path string // from the root, with slashes
	room string
	*ast.File
}

func (s source) generated() bool { return ast.IsGenerated(s.File) }

// parse reads every Go file of this module that is not a test.
func parse(t *testing.T, fset *token.FileSet) (files []source) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			other := err == nil && path != "."
			if name := d.Name(); other || name == "testdata" || name == "tools" || path != "." && strings.HasPrefix(name, ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		path = filepath.ToSlash(path)
		room := strings.TrimSuffix(path[:strings.LastIndex(path, "/")+1], "/")
		files = append(files, source{path, room, f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 100 {
		t.Fatalf("only %d files found: is the test run in the module's root?", len(files))
	}
	return files
}

// within reports whether path is root or below it.
func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// allowed reports whether the room may import to, a room as well.
func allowed(to string, arrows []string) bool {
	return slices.ContainsFunc(arrows, func(a string) bool {
		if base, deep := strings.CutSuffix(a, "/..."); deep {
			return strings.HasPrefix(to, base+"/")
		}
		return a == to
	})
}

func TestArrows(t *testing.T) {
	fset := token.NewFileSet()
	missing := make(map[string]bool)
	for _, f := range parse(t, fset) {
		from, ok := arrows[f.room]
		if !ok {
			if !missing[f.room] {
				t.Errorf("room %s has no arrows: say in arrows_test.go what it may import, and why", f.room)
			}
			missing[f.room] = true
			continue
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			at := fset.Position(spec.Pos())
			for _, fence := range fences {
				exempt := path == "unsafe" && f.generated() // protoc's own
				if within(path, fence.path) && !slices.Contains(fence.rooms, f.room) && !exempt {
					t.Errorf("%s: %s may not be imported here: %s", at, path, fence.why)
				}
			}
			if !within(path, module) {
				continue
			}
			if to := strings.TrimPrefix(strings.TrimPrefix(path, module), "/"); !allowed(to, from.to) {
				t.Errorf("%s: room %q may not import %s: %s", at, f.room, path, from.why)
			}
		}
	}
}

// TestArrowsAreNeeded: a room that is gone leaves no arrows behind.
func TestArrowsAreNeeded(t *testing.T) {
	rooms := make(map[string]bool)
	for _, f := range parse(t, token.NewFileSet()) {
		rooms[f.room] = true
	}
	for room := range arrows {
		if !rooms[room] {
			t.Errorf("arrows_test.go knows a room %s that does not exist", room)
		}
	}
}

// standalone are the rooms that may import nothing but the standard library.
var standalone = []string{"", "proxy/field", "proxy/shard", "internal/testkit"}

func TestStandaloneRooms(t *testing.T) {
	fset := token.NewFileSet()
	for _, f := range parse(t, fset) {
		if !slices.Contains(standalone, f.room) {
			continue
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if host, _, _ := strings.Cut(path, "/"); strings.Contains(host, ".") && !within(path, module) {
				t.Errorf("%s: %s may not be imported here: room %q stands on the standard library alone", fset.Position(spec.Pos()), path, f.room)
			}
		}
	}
}

// TestPackageDocs: each package says once what it is, and who may call it from
// where.
func TestPackageDocs(t *testing.T) {
	docs := make(map[string][]source)
	main, generated := make(map[string]bool), make(map[string]bool)
	for _, f := range parse(t, token.NewFileSet()) {
		if _, ok := docs[f.room]; !ok {
			docs[f.room] = nil // to be missed if it stays so
		}
		main[f.room] = f.Name.Name == "main"
		generated[f.room] = generated[f.room] || f.generated()
		if f.Doc != nil {
			docs[f.room] = append(docs[f.room], f)
		}
	}
	for room, files := range docs {
		name := room
		if name == "" {
			name = "the root"
		}
		var paths []string
		for _, f := range files {
			if f.generated() && len(files) > 1 {
				continue // the generator's heading is no doc
			}
			paths = append(paths, f.path)
		}
		if len(paths) != 1 {
			t.Errorf("%s has %d package docs, want one: %v", name, len(paths), paths)
			continue
		}
		doc := files[slices.IndexFunc(files, func(f source) bool { return f.path == paths[0] })].Doc.Text()
		if !main[room] && !generated[room] && !strings.Contains(doc, "\n# Concurrency\n") {
			t.Errorf("%s: the package doc lacks a section \"# Concurrency\": say what is safe for concurrent use", paths[0])
		}
	}
}

func TestTheClockIsRead(t *testing.T) {
	fset := token.NewFileSet()
	for _, f := range parse(t, fset) {
		if !slices.Contains(timeless, f.room) {
			continue
		}
		if slices.ContainsFunc(clock, func(c string) bool { return f.path == c || strings.HasSuffix(c, "/") && strings.HasPrefix(f.path, c) }) {
			continue
		}
		name := ""
		for _, spec := range f.Imports {
			if spec.Path.Value != `"time"` {
				continue
			}
			if name = "time"; spec.Name != nil {
				name = spec.Name.Name
			}
			if name == "." {
				t.Errorf("%s: time is imported with a dot, which hides who reads the clock", fset.Position(spec.Pos()))
			}
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := s.X.(*ast.Ident)
			if ok && name != "" && pkg.Name == name && slices.Contains([]string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}, s.Sel.Name) {
				t.Errorf("%s: time.%s: the loop reads the clock once per wake-up: take the time as a value, and arm a shard.Timer to wait", fset.Position(s.Pos()), s.Sel.Name)
			}
			return true
		})
	}
}
