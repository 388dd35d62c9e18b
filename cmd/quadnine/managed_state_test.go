package main

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/xds/bootstrap"
)

// TestRuntimeIsModified: over the admin port, as Envoy's.
func TestRuntimeIsModified(t *testing.T) {
	for name, tc := range map[string]struct {
		layers string
		code   int
	}{
		"admin layer":    {"layered_runtime: {layers: [{name: s, static_layer: {a: 1}}, {name: admin, admin_layer: {}}]}", http.StatusOK},
		"none, as Envoy": {"{}", http.StatusOK},
		"static only":    {"layered_runtime: {layers: [{name: s, static_layer: {a: 1}}]}", http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s := startFrom(t, tc.layers, "none")
			resp, err := http.Post("http://"+s.AdminAddr()+"/runtime_modify?a=2", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != tc.code {
				t.Errorf("status %d, want %d", resp.StatusCode, tc.code)
			}
			if page := body("http://" + s.AdminAddr() + "/runtime"); strings.Contains(page, `"final_value": "2"`) != (tc.code == http.StatusOK) {
				t.Errorf("runtime %s", page)
			}
		})
	}
}

// startFrom starts a sidecar of a bootstrap without a reachable server.
func startFrom(t *testing.T, yaml, state string) *sidecar {
	t.Helper()
	boot, err := bootstrap.Load(bootstrap.Options{YAML: yaml})
	if err != nil {
		t.Fatal(err)
	}
	s, err := startSidecar(t.Context(), sidecarConfig{
		managed: managedConfig{boot: boot, stateDir: state}, admin: "127.0.0.1:0", level: slog.LevelWarn, logTo: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(time.Second); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestStateDirHasOneOwner: two processes would write over one another's.
func TestStateDirHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	first, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := lockDir(dir); err == nil || second != nil || !strings.Contains(err.Error(), "another process has the directory") {
		t.Errorf("locked twice: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

// TestFileAsksForWhatItNames: clusters of a file may get their endpoints from a
// server, and listeners of a file their routes.
func TestFileAsksForWhatItNames(t *testing.T) {
	m := newManagers(t)
	m.start()
	m.set("1", "^/never$")
	path := filepath.Join(t.TempDir(), "lds.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write("resources: []\n")
	side := startFrom(t, strings.Replace(m.bootstrap("delta"), "lds_config: {ads: {}", "lds_config: {path_config_source: {path: "+path+"}", 1), t.TempDir())
	s := m.served(side.AdminAddr(), func() {})
	s.says("/xds/status", "app-1", true) // the server was asked, and nobody waits for a table
	listener, _, _ := strings.Cut(managedResources, "---\n")
	write("resources:\n- " + strings.ReplaceAll(strings.TrimSpace(listener), "\n", "\n  ") + "\n")
	s.answers("1")
	s.says("/xds/status", `"sotw"`, false)
	s.says("/stats/prometheus", `quadnine_xds_updates_total{api="LDS",result="accepted"}`, true)
}
