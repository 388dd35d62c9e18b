package h2

import "github.com/quadnine/quadnine/proxy/field"

// What the decoder knows of a field, as its Mark's Kind. A table entry is judged
// once, however often it is referred to. The rules are those of checkField and
// checkPseudo, which judge whatever has no kind.
const (
	kindNone  = iota
	kindPlain // a valid field, of a name that no rule singles out
	kindMethod
	kindScheme
	kindAuthority
	kindPath
	kindStatus
)

// pseudoBits are the kinds of pseudo-header fields that a request may have.
var pseudoBits = [...]int{kindMethod: pMethod, kindScheme: pScheme, kindAuthority: pAuthority, kindPath: pPath, kindStatus: 0}

// classOf returns the kind that a field of that name has if its value is valid.
func classOf(name []byte) uint8 {
	if len(name) > 0 && name[0] == ':' {
		switch string(name) {
		case ":method":
			return kindMethod
		case ":scheme":
			return kindScheme
		case ":authority":
			return kindAuthority
		case ":path":
			return kindPath
		case ":status":
			return kindStatus
		}
		return kindNone
	}
	if singled(name) || !field.ValidLowerName(name) {
		return kindNone
	}
	return kindPlain
}

// judge returns class where value is valid for it.
func judge(class uint8, value []byte) uint8 {
	ok := false
	switch class {
	case kindPlain:
		ok = field.ValidValue(value)
	case kindMethod:
		ok = field.ValidName(value)
	case kindScheme:
		ok = validScheme(value)
	case kindAuthority:
		ok = field.ValidAuthority(value)
	case kindPath:
		ok = field.ValidPath(value)
	case kindStatus:
		_, ok = parseStatus(value)
	}
	if !ok {
		return kindNone
	}
	return class
}
