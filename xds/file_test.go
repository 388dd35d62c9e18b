package xds

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// taken is a Sink that tells of updates.
type taken struct {
	Sink
	updates chan Update
	over    <-chan struct{}
}

func (t taken) Update(u Update) []Rejected {
	select {
	case t.updates <- u:
	case <-t.over:
	}
	return nil
}

func TestFollowFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cds.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	const cluster = "resources:\n- {\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: "
	write(cluster + "a}\n")
	ctx, cancel := context.WithCancel(t.Context())
	sink := taken{updates: make(chan Update), over: ctx.Done()}
	done := make(chan error, 1)
	go func() {
		done <- FollowFile(ctx, KindCluster, path, sink, slog.New(slog.NewTextHandler(t.Output(), nil)))
	}()
	for _, want := range []string{"a", "b"} {
		u := <-sink.updates
		if len(u.Resources) != 1 || u.Resources[0].Name != want || u.Variant != VariantSotw || u.Kind != KindCluster {
			t.Fatalf("got %+v, want cluster %s", u, want)
		}
		write("resources: [") // changes nothing
		write("resources: [{\"@type\": type.googleapis.com/envoy.config.listener.v3.Listener}]")
		write(cluster + "b}\n")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
