package wasm

// Bounds of a module, beyond Limits. What a module says of itself decides what the
// runtime takes to read and compile it: without them 130 KB of code take minutes and
// gigabytes. Within them the worst module that was found takes what decision record
// 34 says, where each number comes from.
const (
	maxCode     = 16 << 20 // bytes
	maxEntries  = 1 << 16  // of each section
	maxElements = 1 << 16  // of all tables, which the memory limit does not count, and of all element segments
	maxParams   = 128      // of a function
	maxResults  = 16       // of a function or a block
	maxVars     = 8192     // parameters and locals of a function
	maxAllVars  = 1 << 20  // of all functions
	maxSteps    = 1 << 17  // of a function
	maxAllSteps = 1 << 20  // of all functions
	maxBranches = 4096     // of a function
	maxCrossing = 1 << 19  // branches times variables of a function
	maxSpan     = 1 << 25  // branches times instructions of a function: values on the stack live over branches
	maxWork     = 1 << 25  // of all functions: branches times (branches and 24 times variables)
)
