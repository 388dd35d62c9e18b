package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLeveledKeepsItsLevelThroughGroups(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(leveled{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}), slog.LevelInfo})
	log = log.With("a", 1).WithGroup("g")
	log.Debug("unseen")
	log.Info("seen", "b", 2)
	if got := out.String(); strings.Contains(got, "unseen") || !strings.Contains(got, "msg=seen a=1 g.b=2") {
		t.Fatalf("log %q", got)
	}
}

func TestExportErrorsAreCountedAndSaidNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		r := NewRegistry()
		c := &complaints{log: slog.New(slog.NewTextHandler(&out, nil)), registry: r}
		refused := errors.New("connection refused")
		for range 10 {
			c.Handle(refused)
		}
		if n := strings.Count(out.String(), "connection refused"); n != 1 {
			t.Fatalf("%d lines at once, want 1:\n%s", n, out.String())
		}
		time.Sleep(complainEvery - time.Second)
		c.Handle(refused)
		if n := strings.Count(out.String(), "connection refused"); n != 1 {
			t.Fatalf("%d lines before the pause was over, want 1", n)
		}
		time.Sleep(time.Second)
		c.Handle(refused)
		if n := strings.Count(out.String(), "connection refused"); n != 2 {
			t.Fatalf("%d lines after the pause, want 2", n)
		}
		if got := r.Total(ExportFailures); got != 12 {
			t.Fatalf("%d failures counted, want 12", got)
		}
	})
}
