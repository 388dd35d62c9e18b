package judge

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// status is what this suite reads of /xds/status.
type status struct {
	Server    string
	Connected bool
	Variant   string
	Resources []struct {
		API      string
		Name     string
		State    string
		Error    string
		Static   bool
		Ignored  []string
		WaitsFor []string `json:"waits_for"`
	}
	Stream struct {
		APIs []struct {
			API   string
			Acks  int
			Nacks int
		}
	}
}

// status asks the proxy for /xds/status.
func (g *gateway) status(ctx context.Context) (s status, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.admin+"/xds/status", http.NoBody)
	if err != nil {
		return s, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return s, fmt.Errorf("/xds/status: %s", res.Status)
	}
	err = json.NewDecoder(res.Body).Decode(&s)
	return s, err
}

// unsettled lists the resources that are not in use, and why.
func (s status) unsettled() string {
	var b strings.Builder
	for _, r := range s.Resources {
		if r.State != "active" && !r.Static {
			fmt.Fprintf(&b, "%s %s: %s %v %s\n", r.API, r.Name, r.State, r.WaitsFor, r.Error)
		}
	}
	return b.String()
}

// nacks is how many responses were refused, wholly or in part.
func (s status) nacks() (n int) {
	for _, a := range s.Stream.APIs {
		n += a.Nacks
	}
	return n
}

// ignored lists what was accepted without effect, each once.
func (s status) ignored() string {
	var b strings.Builder
	seen := make(map[string]bool)
	for _, r := range s.Resources {
		for _, i := range r.Ignored {
			if key := r.API + " " + i; !seen[key] {
				seen[key] = true
				b.WriteString(key + "\n")
			}
		}
	}
	return b.String()
}
