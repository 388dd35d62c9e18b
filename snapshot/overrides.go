package snapshot

// Overrides returns the policies that virtual hosts, routes and weighted
// clusters say of their own.
func (t *RouteTable) Overrides() (out []Policies) {
	add := func(p Policies) {
		if p != (Policies{}) {
			out = append(out, p)
		}
	}
	for _, h := range t.Hosts {
		add(h.Policies)
		for _, r := range h.Routes {
			add(r.Policies)
			if r.Forward != nil {
				for i := range r.Forward.Weighted {
					add(r.Forward.Weighted[i].Policies)
				}
			}
		}
	}
	return out
}
