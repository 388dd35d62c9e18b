package policy

// FNV-1a's constants for 64 bits (draft-eastlake-fnv, section 5).
const (
	fnvBasis = 0xcbf29ce484222325
	fnvPrime = 0x100000001b3
)

// Draw returns a number, uniform over callers, that decides which of two
// versions answers one: the same salt, tenant and user draw the same on every
// node and after every restart, so that a caller stays on its version. An empty
// user is one caller: the whole tenant. It allocates nothing.
//
// The hash is 64-bit FNV-1a over the parts and their lengths. Its high bits are
// poor for short inputs, so murmur3's fmix64 spreads them: a share is compared
// with the high half.
func Draw(salt uint64, tenant string, user []byte) uint64 {
	h := fnvNumber(fnvBasis, salt)
	h = fnvNumber(h, uint64(len(tenant)))
	for i := range len(tenant) {
		h = (h ^ uint64(tenant[i])) * fnvPrime
	}
	h = fnvNumber(h, uint64(len(user)))
	for _, b := range user {
		h = (h ^ uint64(b)) * fnvPrime
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func fnvNumber(h, n uint64) uint64 {
	for ; n >= 0x80; n >>= 7 {
		h = (h ^ (n&0x7f | 0x80)) * fnvPrime
	}
	return (h ^ n) * fnvPrime
}
