package load

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// ErrReport says that h2load's output is not the report that this package knows.
var ErrReport = errors.New("report not understood")

// Result is what h2load reports.
type Result struct {
	Took      time.Duration // wall clock of the run
	PerSecond float64       // requests a second
	Succeeded int           // requests with a complete answer
	Failed    int           // requests without one
	OK        int           // answers with a 2xx status
}

var (
	finished = regexp.MustCompile(`finished in ([0-9.]+)(us|ms|s|m|h), ([0-9.]+) req/s`)
	requests = regexp.MustCompile(`requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed`)
	statuses = regexp.MustCompile(`status codes: (\d+) 2xx`)
)

// Parse reads the report at the end of h2load's output.
func Parse(out string) (Result, error) {
	f, q, s := finished.FindStringSubmatch(out), requests.FindStringSubmatch(out), statuses.FindStringSubmatch(out)
	if f == nil || q == nil || s == nil {
		return Result{}, fmt.Errorf("load: %w: want lines with \"finished in\", \"requests:\" and \"status codes:\"", ErrReport)
	}
	var r Result
	var errs [5]error
	r.Took, errs[0] = time.ParseDuration(f[1] + f[2])
	r.PerSecond, errs[1] = strconv.ParseFloat(f[3], 64)
	r.Succeeded, errs[2] = strconv.Atoi(q[1])
	r.Failed, errs[3] = strconv.Atoi(q[2])
	r.OK, errs[4] = strconv.Atoi(s[1])
	if err := errors.Join(errs[:]...); err != nil {
		return Result{}, fmt.Errorf("load: %w: %w", ErrReport, err)
	}
	return r, nil
}
