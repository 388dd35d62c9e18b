package main

import (
	"path/filepath"
	"testing"

	"github.com/quadnine/quadnine/bench/contest"
)

// A run that leaves something out does not replace what a whole one has left.
func TestPartialRunsHaveAFolderOfTheirOwn(t *testing.T) {
	for _, c := range []struct {
		o    contest.Options
		want string
	}{
		{contest.Options{}, "results"},
		{contest.Options{Quick: true}, filepath.Join("results", "partial")},
		{contest.Options{Only: "nginx"}, filepath.Join("results", "partial")},
		{contest.Options{Cases: []string{"tls"}}, filepath.Join("results", "partial")},
	} {
		if got := (options{contest: c.o}).folder(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.o, got, c.want)
		}
	}
}
