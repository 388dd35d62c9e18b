package shard

import (
	"strings"
	"testing"
)

func TestParseDriver(t *testing.T) {
	for _, d := range []Driver{Auto, Portable} {
		if got, err := ParseDriver(d.String()); got != d || err != nil {
			t.Errorf("%s: %v, %v", d, got, err)
		}
	}
	if got, err := ParseDriver("epoll"); (err == nil) != hasEpoll || hasEpoll && got != Epoll {
		t.Errorf("epoll: %v, %v", got, err)
	}
	if _, err := ParseDriver("kqueue"); err == nil || !strings.Contains(err.Error(), "auto, epoll or portable") {
		t.Errorf("kqueue: %v", err)
	}
}
