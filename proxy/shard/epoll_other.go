//go:build !linux

package shard

import (
	"errors"
	"net"
)

const hasEpoll = false

// poller does not exist here.
type poller struct{}

func newPoller() (*poller, error) { return nil, errors.ErrUnsupported }

func pollable(net.Conn) bool { return false }

func (p *poller) adopt(*Conn) (transport, bool)   { return nil, false }
func (p *poller) ring()                           {}
func (p *poller) wait(*Shard, *Mail, int64, bool) {}
func (p *poller) deliver()                        {}
func (p *poller) close()                          {}
