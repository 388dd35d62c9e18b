package main

import (
	"errors"
	"fmt"
)

// copies returns the limit on a version's private memory in bytes: 0 for the
// loader's default, -1 for none.
func (c *modelsConfig) copies() (int64, error) {
	switch c.copyLimit {
	case "":
		return 0, nil
	case "off":
		return -1, nil
	}
	n, err := parseBytes(c.copyLimit)
	switch {
	case err != nil:
		err = fmt.Errorf("%w, or off", err)
	case n == 0:
		err = errors.New("0 would refuse every version with a short change; give 4MiB or more, or off")
	}
	if err != nil {
		return 0, usage(fmt.Errorf("--model-copy-limit: %w", err))
	}
	return n, nil
}
