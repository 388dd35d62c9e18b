package loader

import (
	"errors"
	"io"
	"os"
)

// volume is how the store changes its disk. Everything that a power cut can undo
// goes through it, so that tests can put full disks behind it and undo what was
// not synced.
type volume struct {
	create    func(name string) (file, error) // a new file, or one that is emptied
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
		mkdirAll:  func(name string) error { return os.MkdirAll(name, 0o755) },
		rename:    os.Rename,
		removeAll: os.RemoveAll,
		syncPath:  syncPath,
	}
}

func syncPath(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
