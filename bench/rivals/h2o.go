package rivals

var h2o = Rival{
	Name: NameH2O, Note: "HTTP/1.1 upstream: h2o 2.2 speaks no other",
	Cannot: map[string]string{"streaming": "h2o 2.2 speaks only HTTP/1.1 upstream and takes a request's body in whole first"},
	start: func(at Place) (*Running, error) {
		return at.program("h2o", "h2o.yaml", true, false, func(path string) []string { return []string{"-m", "worker", "-c", path} })
	},
}
