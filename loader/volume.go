package loader

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// volume is how the store changes its disk. Everything that a power cut can undo
// goes through it, so that tests can put full disks behind it and undo what was
// not synced.
type volume struct {
	create    func(name string) (file, error) // a new file, or one that is emptied
	allocate  func(f file, size int64) error  // takes the room for what will be written to it
	mkdirAll  func(name string) error         // with its parents
	rename    func(from, to string) error
	removeAll func(name string) error // with what is below; nothing when it is not there
	syncPath  func(name string) error // a file's bytes, or a directory's names
}

// file is what the store writes to.
type file interface {
	io.Writer
	Sync() error
	Close() error
}

// osVolume is the volume of the operating system.
func osVolume() volume {
	return volume{
		create:    func(name string) (file, error) { return os.Create(name) },
		allocate:  allocate,
		mkdirAll:  func(name string) error { return os.MkdirAll(name, 0o755) },
		rename:    os.Rename,
		removeAll: os.RemoveAll,
		syncPath:  syncPath,
	}
}

// createSized is create for a file whose size is known: when the disk has no room for
// it, nothing is written.
func (v *volume) createSized(name string, size int64) (file, error) {
	f, err := v.create(name)
	if err != nil {
		return nil, err
	}
	if err := v.allocate(f, size); err != nil {
		return nil, errors.Join(fmt.Errorf("room for %d bytes: %w", size, explain(err)), f.Close())
	}
	return f, nil
}

func syncPath(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
