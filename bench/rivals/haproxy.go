package rivals

var (
	haproxy = Rival{Name: NameHAProxy, start: func(at Place) (*Running, error) { return startHAProxy(at, "haproxy.cfg") }}
	tcp     = Rival{
		Name: NameFloor, Note: "HAProxy in mode tcp: the floor",
		Cannot: map[string]string{string(HTTP1): "a pass-through translates nothing"},
		start:  func(at Place) (*Running, error) { return startHAProxy(at, "tcp.cfg") },
	}
)

// startHAProxy starts HAProxy with one of its two configurations. -db: stay in
// the foreground, one process.
func startHAProxy(at Place, file string) (*Running, error) {
	return at.program("haproxy", file, false, false, func(path string) []string { return []string{"-db", "-f", path} })
}
