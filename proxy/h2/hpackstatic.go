package h2

import "github.com/quadnine/quadnine/proxy/field"

// staticTable is RFC 7541 appendix A; index 1 is the first.
var staticTable = [...]struct{ name, value string }{
	{":authority", ""},
	{":method", "GET"},
	{":method", "POST"},
	{":path", "/"},
	{":path", "/index.html"},
	{":scheme", "http"},
	{":scheme", "https"},
	{":status", "200"},
	{":status", "204"},
	{":status", "206"},
	{":status", "304"},
	{":status", "400"},
	{":status", "404"},
	{":status", "500"},
	{"accept-charset", ""},
	{"accept-encoding", "gzip, deflate"},
	{"accept-language", ""},
	{"accept-ranges", ""},
	{"accept", ""},
	{"access-control-allow-origin", ""},
	{"age", ""},
	{"allow", ""},
	{"authorization", ""},
	{"cache-control", ""},
	{"content-disposition", ""},
	{"content-encoding", ""},
	{"content-language", ""},
	{"content-length", ""},
	{"content-location", ""},
	{"content-range", ""},
	{"content-type", ""},
	{"cookie", ""},
	{"date", ""},
	{"etag", ""},
	{"expect", ""},
	{"expires", ""},
	{"from", ""},
	{"host", ""},
	{"if-match", ""},
	{"if-modified-since", ""},
	{"if-none-match", ""},
	{"if-range", ""},
	{"if-unmodified-since", ""},
	{"last-modified", ""},
	{"link", ""},
	{"location", ""},
	{"max-forwards", ""},
	{"proxy-authenticate", ""},
	{"proxy-authorization", ""},
	{"range", ""},
	{"referer", ""},
	{"refresh", ""},
	{"retry-after", ""},
	{"server", ""},
	{"set-cookie", ""},
	{"strict-transport-security", ""},
	{"transfer-encoding", ""},
	{"user-agent", ""},
	{"vary", ""},
	{"via", ""},
	{"www-authenticate", ""},
}

const staticLen = uint64(len(staticTable))

// noStatic is the index of a name that the static table does not have.
const noStatic = 255

// staticSlots finds a name's first index: a multiplication that sends no two of
// the names to one slot (TestStaticIndex).
var staticSlots = func() (slots [256]uint8) {
	for i := len(staticTable) - 1; i >= 0; i-- {
		slots[staticSlot([]byte(staticTable[i].name))] = uint8(i) + 1
	}
	return slots
}()

func staticSlot(name []byte) uint8 {
	n := len(name)
	return uint8((uint32(n) | uint32(name[0])<<8 | uint32(name[n-1])<<16) * 0xfe175331 >> 24)
}

// staticIndex returns the first index of name, or noStatic.
func staticIndex(name []byte) uint8 {
	if len(name) == 0 {
		return noStatic
	}
	if i := staticSlots[staticSlot(name)]; i > 0 && string(name) == staticTable[i-1].name {
		return i
	}
	return noStatic
}

// staticFields are the entries as the decoder hands them out: name and value in
// one piece, and their marks. A token up to staticLen is the index itself.
var staticFields = func() (fields [staticLen]staticField) {
	for i, f := range staticTable {
		class := classOf([]byte(f.name))
		fields[i] = staticField{
			pair: append(make([]byte, 0, field.Slack), f.name+f.value...), name: len(f.name), class: class,
			mark: field.Mark{Token: uint64(i) + 1, Kind: judge(class, []byte(f.value)), Static: staticIndex([]byte(f.name))},
		}
	}
	return fields
}()

type staticField struct {
	pair  []byte
	name  int // its length
	class uint8
	mark  field.Mark
}
