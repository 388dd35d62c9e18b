package rivals

import "github.com/quadnine/quadnine/bench/proc"

var caddy = Rival{Name: "Caddy", start: func(at Place) (*Running, error) {
	// Its state stays below the scratch folder.
	env := proc.Env("XDG_DATA_HOME="+at.Dir, "XDG_CONFIG_HOME="+at.Dir, "HOME="+at.Dir)
	args := func(path string) []string { return []string{"run", "--adapter", "caddyfile", "--config", path} }
	return at.program("caddy", "caddy.caddyfile", false, false, args, env)
}}
