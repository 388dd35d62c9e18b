package quadnine

// OtherTenant stands for every tenant that is unknown or past a bound. It is
// shared: nothing of one caller's is stored under it.
const OtherTenant = "_other"

// Key names what a query is about: the unit of circuit breaking, degradation
// and accounting. Tenant is never empty after decoding (OtherTenant stands in);
// Metric may be.
type Key struct {
	Tenant string
	Metric string
}

// String returns "tenant/metric", for logs and admin pages only: the parts are
// not escaped.
func (k Key) String() string { return k.Tenant + "/" + k.Metric }
