package proxy

// Shadow computes queries that were answered once more with another version, which
// answers nobody.
type Shadow interface {
	// Offer hands over what a query was answered from: rows has the values of by's
	// inputs for each of answers, the numbers that the caller gets. It is called on
	// workers, of many queries at once; it must not block, nor keep the slices.
	Offer(tenant string, by *ModelVersion, rows, answers []float64)
}
