package xds

import (
	"context"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"text/template"

	"github.com/quadnine/quadnine/bench/proc"
)

//go:embed bootstrap.yaml
var configs embed.FS

// The proxies, by their names in the table; they are the ids of the nodes, too.
const (
	envoy    = "Envoy"
	quadnine = "quadnine"
)

// run starts one of the two.
func (s *stand) run(name, server, admin string) (*proc.Proc, error) {
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	t, err := template.ParseFS(configs, "bootstrap.yaml")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "bootstrap.yaml")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	err = t.Execute(f, map[string]any{"Node": name, "Admin": proc.Port(admin), "Server": proc.Port(server), "Variant": s.variant})
	if err := f.Close(); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	bin, args := s.Quadnine, []string{"-c", path, "--concurrency", "1", "--log-level", "error"}
	if name == envoy {
		if bin, err = proc.Find("envoy"); err != nil {
			return nil, err
		}
		args = append(args, "--disable-hot-restart")
	} else {
		// Everything that it does by default, keeping the last good
		// configuration included.
		args = append(args, "--state-dir", filepath.Join(dir, "state"), "--admin-pprof")
	}
	return proc.Start(bin, args, proc.Pin(s.ProxyCPU), proc.Dir(dir))
}

// backends are two servers that tell who they are.
type backends struct {
	addrs [2]string
	procs []*proc.Proc
}

// startBackends starts both, bound to cpu, with their files below dir.
func startBackends(ctx context.Context, dir string, cpu int) (*backends, error) {
	bin, err := proc.Find("nghttpd")
	if err != nil {
		return nil, err
	}
	addrs, err := proc.Addrs(2)
	if err != nil {
		return nil, err
	}
	b := &backends{addrs: [2]string(addrs)}
	for i, addr := range addrs {
		root := filepath.Join(dir, "xds-backend-"+strconv.Itoa(i))
		for _, path := range []string{probePath, firstPath, lastPath} {
			file := filepath.Join(root, filepath.FromSlash(path))
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				b.stop()
				return nil, err
			}
			if err := os.WriteFile(file, []byte(strconv.Itoa(i)), 0o644); err != nil {
				b.stop()
				return nil, err
			}
		}
		p, err := proc.Start(bin, []string{"--no-tls", "-a", "127.0.0.1", "-n", "1", "-m", "1024", "-d", root, strconv.Itoa(proc.Port(addr))}, proc.Pin(cpu))
		if err != nil {
			b.stop()
			return nil, err
		}
		b.procs = append(b.procs, p)
		wait, cancel := context.WithTimeout(ctx, sampleWithin)
		err = p.AwaitTCP(wait, addr)
		cancel()
		if err != nil {
			b.stop()
			return nil, fmt.Errorf("backend: %w", err)
		}
	}
	return b, nil
}

// stop ends both.
func (b *backends) stop() {
	for _, p := range b.procs {
		p.Stop()
	}
}
