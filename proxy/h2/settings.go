package h2

import (
	"errors"

	"golang.org/x/net/http2"
)

// writeSettings puts our SETTINGS into the output, and the connection's window,
// which SETTINGS cannot carry.
func (c *Conn) writeSettings() {
	settings := []http2.Setting{
		{ID: http2.SettingHeaderTableSize, Val: c.cfg.HeaderTableSize},
		{ID: http2.SettingInitialWindowSize, Val: c.cfg.StreamWindow},
		{ID: http2.SettingMaxFrameSize, Val: c.cfg.MaxFrameSize},
		{ID: http2.SettingMaxHeaderListSize, Val: c.cfg.MaxHeaderBytes},
	}
	if c.server {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.cfg.MaxConcurrentStreams})
		if c.cfg.ExtendedConnect {
			settings = append(settings, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		}
	} else {
		settings = append(settings, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	}
	c.write(func(f *http2.Framer) error { return f.WriteSettings(settings...) })
	if n := int64(c.cfg.ConnWindow) - initialWindow; n > 0 {
		c.out.b = appendWindowUpdate(c.out.b, 0, n)
		c.recvWindow += n
	}
}

func (c *Conn) onSettings(f *http2.SettingsFrame) {
	c.stats.Settings++
	if f.IsAck() {
		if c.settingsAcked {
			c.flood(FloodSettings)
			return
		}
		c.settingsAcked = true
		c.dec.settled(c.cfg.HeaderTableSize)
		delta := int64(c.cfg.StreamWindow) - c.recvInit // what the peer sends from here on obeys it
		c.recvInit += delta
		for s := c.open.first; s != nil; s = s.links[openLinks].next {
			s.recvWindow += delta
		}
		return
	}
	if c.flood(FloodSettings); c.err != nil {
		return
	}
	first := !c.gotSettings
	if first {
		c.gotSettings = true
		c.peerStreams = 1<<32 - 1 // unlimited unless this frame says otherwise
	}
	window := c.peerWindow // applied once: the last of several values counts
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingHeaderTableSize:
			c.enc.resize(s.Val)
		case http2.SettingInitialWindowSize:
			window = int64(s.Val)
		case http2.SettingMaxConcurrentStreams:
			c.peerStreams = s.Val
		case http2.SettingEnablePush:
			if !c.server && s.Val != 0 { // RFC 9113 section 6.5.2
				return http2.ConnectionError(http2.ErrCodeProtocol)
			}
		case http2.SettingEnableConnectProtocol:
			if c.peerConnects && s.Val == 0 { // RFC 8441 section 3
				return http2.ConnectionError(http2.ErrCodeProtocol)
			}
			c.peerConnects = s.Val == 1
		}
		return nil
	})
	if err != nil {
		c.failFrame(err, "the value of a setting is not valid")
		return
	}
	if c.resizeWindows(window); c.err != nil {
		return
	}
	c.write((*http2.Framer).WriteSettingsAck)
	c.queuedAck()
	if first {
		c.h.OnSettings(c)
	}
}

// failFrame ends the connection for what x/net's Framer found.
func (c *Conn) failFrame(err error, reason string) {
	code := ProtocolError
	if e, ok := errors.AsType[http2.ConnectionError](err); ok {
		code = ErrCode(e)
	}
	c.fail(code, reason)
}
