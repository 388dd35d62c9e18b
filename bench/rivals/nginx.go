package rivals

import "github.com/quadnine/quadnine/bench/proc"

var nginx = Rival{
	Name: NameNginx, Note: "HTTP/1.1 upstream: nginx 1.22 cannot speak HTTP/2 to one, except for gRPC",
	start: func(at Place) (*Running, error) {
		return at.program("nginx", "nginx.conf", true, false, nginxArgs(at.Dir))
	},
}

// nginxArgs are the arguments for a configuration.
func nginxArgs(dir string) func(path string) []string {
	return func(path string) []string { return []string{"-e", "stderr", "-p", dir, "-c", path} }
}

// startNginx starts nginx as the backend.
func startNginx(at Place, data any) (*proc.Proc, error) {
	bin, err := proc.Find("nginx")
	if err != nil {
		return nil, err
	}
	path, err := render(at.Dir, "nginx-backend.conf", data)
	if err != nil {
		return nil, err
	}
	return proc.Start(bin, nginxArgs(at.Dir)(path), at.options()...)
}
