package proxy

import (
	"strconv"
	"time"
)

// grpcTimeout is what the request's grpc-timeout says, at most limit, where 0 is
// no limit of either.
func (x *Exchange) grpcTimeout(limit time.Duration) time.Duration {
	n, _ := parseGRPCTimeout(x.req.Get("grpc-timeout"))
	d := time.Duration(n)
	if limit > 0 && (d == 0 || d > limit) {
		return limit
	}
	return d
}

// appendGRPCTimeout appends d as a grpc-timeout value: up to eight digits and the
// smallest unit, from milliseconds on, that they suffice for.
func appendGRPCTimeout(dst []byte, d time.Duration) []byte {
	const digits = 100_000_000
	for _, u := range [...]struct {
		d    time.Duration
		unit byte
	}{{time.Millisecond, 'm'}, {time.Second, 'S'}, {time.Minute, 'M'}} {
		if d < digits*u.d {
			return append(strconv.AppendInt(dst, int64(d/u.d), 10), u.unit)
		}
	}
	return append(strconv.AppendInt(dst, int64(d/time.Hour), 10), 'H')
}
