package xds

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/xds/bootstrap"
)

// rereadEvery is how often a file is looked at without an event: events are lost
// on some file systems.
const rereadEvery = 10 * time.Second

// FollowFile gives sink what a file holds, now and whenever it is replaced, until
// ctx ends: a path_config_source. The file holds a DiscoveryResponse, or resources
// as `quadnine control` reads them. A file that cannot be used changes nothing and
// is logged.
func FollowFile(ctx context.Context, kind Kind, path string, sink Sink, log *slog.Logger) error {
	return follow(ctx, &file{kind: kind, path: path, sink: sink, log: log}, filepath.Dir(path), nil)
}

// follow has f read whenever something happens in dir, or again says so.
func follow(ctx context.Context, f *file, dir string, again <-chan struct{}) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("xds: watch %s: %w", dir, err)
	}
	defer func() { _ = w.Close() }()
	// The directory: what replaces the file by renaming is seen only there, and a
	// Kubernetes volume swaps a link beside it.
	if err := w.Add(dir); err != nil {
		return fmt.Errorf("xds: watch %s: %w", dir, err)
	}
	t := time.NewTicker(rereadEvery)
	defer t.Stop()
	for {
		f.read()
		select {
		case <-ctx.Done():
			return nil
		case <-w.Events:
		case <-again:
		case err := <-w.Errors:
			f.log.Warn("watching a configuration file", "path", f.path, "err", err)
		case <-t.C:
		}
	}
}

// file is a followed file.
type file struct {
	kind Kind
	path string
	sink Sink
	log  *slog.Logger
	last string // what was given, or what was complained of
	n    int

	wanted func() []string // what of it is asked for; nil: all
	names  []string        // what was asked for when it was given
}

// read gives what the file holds when it changed.
func (f *file) read() {
	data, err := os.ReadFile(f.path)
	var names []string
	if f.wanted != nil {
		names = f.wanted()
	}
	if err == nil && f.last == string(data) && slices.Equal(names, f.names) {
		return
	}
	f.names = names
	var u Update
	switch {
	case err == nil:
		f.last = string(data)
		u, err = f.update(data)
	case f.last == err.Error():
		return
	default:
		f.last = err.Error()
	}
	if err != nil {
		f.log.Error("configuration file cannot be used; what was in force stays", "path", f.path, "err", err)
		return
	}
	rejected := f.sink.Update(u)
	for _, name := range names {
		if !slices.ContainsFunc(u.Resources, func(r Resource) bool { return r.Name == name }) {
			f.sink.Missing(f.kind, name) // there is nothing to wait for
		}
	}
	for _, r := range rejected {
		f.log.Error("resource of a configuration file refused; the one before stays", "path", f.path, "resource", r.Name, "field", r.Path, "reason", r.Reason, "hint", r.Hint)
	}
}

// update makes a whole response of what the file holds.
func (f *file) update(data []byte) (Update, error) {
	all, err := bootstrap.Resources(f.path, data)
	if err != nil {
		return Update{}, err
	}
	f.n++
	u := Update{Kind: f.kind, Variant: VariantSotw, Version: fmt.Sprintf("%s#%d", filepath.Base(f.path), f.n)}
	for _, r := range all {
		body, err := proto.Marshal(r.Message)
		if err != nil {
			return Update{}, err
		}
		url := "type.googleapis.com/" + string(r.Message.ProtoReflect().Descriptor().FullName())
		if url != f.kind.TypeURL() {
			return Update{}, fmt.Errorf("%s: is a %s, and %s are read from this file", r.At(""), url, f.kind)
		}
		named, ok := r.Message.(interface{ GetName() string })
		if !ok {
			return Update{}, fmt.Errorf("%s: has no name", r.At(""))
		}
		u.Resources = append(u.Resources, Resource{Name: named.GetName(), Version: u.Version, Body: body})
	}
	return u, nil
}
