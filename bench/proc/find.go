package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrMissing says that a program is not installed; `make deps` installs it.
var ErrMissing = errors.New("tool missing")

// CacheDir returns the folder that `make deps` installs into: quadnine under
// $XDG_CACHE_HOME, or under ~/.cache.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("proc: no cache folder, set XDG_CACHE_HOME or HOME: %w", err)
	}
	return filepath.Join(base, "quadnine"), nil
}

// Find returns the path of the program name: from the cache folder first (its
// versions are pinned), then from PATH, then from the sbin folders, which an
// ordinary user's PATH lacks on Debian. The error wraps ErrMissing.
func Find(name string) (string, error) {
	if dir, err := CacheDir(); err == nil {
		p := filepath.Join(dir, "bin", name)
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: %s; install it with: make deps", ErrMissing, name)
}

// FindAll looks for every name and reports all that are missing at once, so
// that one run of `make deps` is enough.
func FindAll(names ...string) error {
	var missing []string
	for _, n := range names {
		if _, err := Find(n); err != nil {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s; install with: make deps", ErrMissing, strings.Join(missing, ", "))
	}
	return nil
}
