package console

import (
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Certificate is one that connections are secured with, or a bundle of those that
// peers' are issued by.
type Certificate struct {
	Path   string    // the file, or where else it stands
	CA     bool      // it is a bundle
	Names  []string  // of a certificate itself: subject alternative names
	Serial string    // in hexadecimal
	Ends   time.Time // zero while none is in use
	Error  string    // why newer data are not used
}

// The messages of envoy.admin.v3 that tools read, and what is wrong with the files.
type (
	certificates struct {
		Certificates []certificateEntry `json:"certificates"`
	}
	certificateEntry struct {
		CA    []certificateDetails `json:"ca_cert,omitempty"`
		Chain []certificateDetails `json:"cert_chain,omitempty"`
	}
	certificateDetails struct {
		Path           string           `json:"path"`
		SerialNumber   string           `json:"serial_number,omitempty"`
		SubjectAlt     []map[string]any `json:"subject_alt_names,omitempty"`
		DaysUntil      int              `json:"days_until_expiration"`
		ExpirationTime string           `json:"expiration_time,omitempty"`
		Error          string           `json:"error,omitempty"`
	}
)

func (v *Views) certs(w http.ResponseWriter, _ *http.Request) {
	out := certificates{Certificates: []certificateEntry{}}
	for _, c := range v.Certificates() {
		d := certificateDetails{Path: c.Path, SerialNumber: c.Serial, Error: c.Error}
		if !c.Ends.IsZero() {
			d.DaysUntil = int(max(time.Until(c.Ends), 0) / (24 * time.Hour))
			d.ExpirationTime = c.Ends.UTC().Format(time.RFC3339)
		}
		for _, n := range c.Names {
			d.SubjectAlt = append(d.SubjectAlt, map[string]any{nameField(n): n})
		}
		var e certificateEntry
		if c.CA {
			e.CA = []certificateDetails{d}
		} else {
			e.Chain = []certificateDetails{d}
		}
		out.Certificates = append(out.Certificates, e)
	}
	writeJSON(w, out)
}

// nameField is the field of envoy.admin.v3.SubjectAlternateName that n stands in.
func nameField(n string) string {
	if strings.Contains(n, "://") {
		return "uri"
	}
	if _, err := netip.ParseAddr(n); err == nil {
		return "ip_address"
	}
	return "dns"
}
