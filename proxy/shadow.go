package proxy

// Shadow computes queries that were answered once more with another version, which
// answers nobody.
type Shadow interface {
	// Offer hands over what a query was answered from: values are those of by's
	// inputs, and answer is the number that the caller gets. It is called on workers,
	// of many queries at once; it must not block, nor keep the slice.
	Offer(tenant string, by *ModelVersion, values []float64, answer float64)
}
