package delta

// What one way to write a tensor costs beside another. Figures: docs/decisions/0023-rows.md.
const (
	mappedFrom = 16 * PageSize // a run of so many bytes is mapped by the loader, a shorter one is copied
	mapPrice   = 4 * PageSize  // to map a run, in bytes that could be read and hashed instead
	copyPrice  = PageSize      // to copy a page, likewise; it is private memory besides
)

// price weighs entries that follow one another: the bytes they take in the file,
// which are read and hashed, and what mapping them takes.
func price(entries []Entry) (sum int64) {
	page := int64(-1) // the last one that is copied
	for i := range entries {
		e := &entries[i]
		sum += e.tableSize() + e.Shipped()
		for r := range e.Runs {
			switch {
			case !r.Shipped:
			case r.Len >= mappedFrom:
				sum += mapPrice
			default:
				from, to := (e.TargetOff+r.Off)/PageSize, (e.TargetOff+r.Off+r.Len-1)/PageSize
				sum += copyPrice * (to - max(from, page+1) + 1)
				page = to
			}
		}
	}
	return sum
}

// tableSize returns the bytes that e takes in the table.
func (e *Entry) tableSize() int64 {
	n := entrySize + int64(len(e.Name)) + extentSize*int64(len(e.Extents))
	if e.Kind == Rows {
		n += rowsSize + rowSize*int64(len(e.Rows))
	}
	return n
}

// cheapest returns the candidate with the least price, of two alike the first.
func cheapest(candidates ...[]Entry) []Entry {
	best := candidates[0]
	least := price(best)
	for _, c := range candidates[1:] {
		if p := price(c); p < least {
			best, least = c, p
		}
	}
	return best
}
