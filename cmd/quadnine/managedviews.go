package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/xds"
	"github.com/quadnine/quadnine/xds/bootstrap"
	"github.com/quadnine/quadnine/xds/compile"
)

// views shows the management side to the console.
func (m *managed) views() *console.XDS {
	return &console.XDS{
		Status: func() any { return m.status() },
		Dump: func(endpoints bool, section string) ([]byte, error) {
			return m.applier.ConfigDump(m.boot.Message, endpoints, section)
		},
		Validate:   validateAny,
		Runtime:    m.runtime,
		SetRuntime: m.applier.SetRuntime,
	}
}

// status is /xds/status: the configuration, and the stream that it comes over.
func (m *managed) status() any {
	if m.client == nil {
		return m.applier.Status()
	}
	return struct {
		xds.Status
		Stream *xds.StreamStatus `json:"stream"`
	}{m.applier.Status(), m.client.Status()}
}

// viaAPI reports whether a cluster is not of the bootstrap.
func (m *managed) viaAPI(name string) bool {
	return !slices.ContainsFunc(m.boot.Clusters, func(c *clusterv3.Cluster) bool { return c.GetName() == name })
}

func (m *managed) runtime() console.Runtime {
	out := console.Runtime{Layers: []string{}, Entries: make(map[string]console.RuntimeEntry)}
	rt := m.applier.Runtime()
	if rt == nil {
		return out
	}
	for _, l := range rt.Layers {
		out.Layers = append(out.Layers, l.Name)
	}
	for key, final := range rt.Values {
		e := console.RuntimeEntry{FinalValue: final}
		for _, l := range rt.Layers {
			e.LayerValues = append(e.LayerValues, l.Values[key])
		}
		out.Entries[key] = e
	}
	return out
}

// validateAny compiles what body holds, a bootstrap or resources, with a compiler
// of its own: nothing in force is touched.
func validateAny(body []byte) (notes []string, err error) {
	if !bytes.Contains(body, []byte("@type")) || bytes.Contains(body, []byte("static_resources")) || bytes.Contains(body, []byte("staticResources")) {
		b, err := bootstrap.Load(bootstrap.Options{YAML: string(body)})
		if err != nil {
			return nil, errors.New(strings.ReplaceAll(err.Error(), "--config-yaml:", "line "))
		}
		notes, err := compileBootstrap(b, compile.New())
		if unnamed := b.Identified(); unnamed != nil {
			notes = append(notes, unnamed.Error()) // the command line may say it
		}
		return notes, err
	}
	all, err := bootstrap.Resources("line ", body)
	if err != nil {
		return nil, err
	}
	c := compile.New()
	var errs []error
	for i, r := range all {
		n, err := compileOne(c, r.Message)
		if err != nil {
			errs = append(errs, fmt.Errorf("resources[%d]: %w", i, err))
		}
		notes = append(notes, n...)
	}
	return notes, errors.Join(errs...)
}

// compileBootstrap compiles the static resources of b as a start would, and lists
// what has no effect.
func compileBootstrap(b *bootstrap.Bootstrap, c *compile.Compiler) (notes []string, err error) {
	for _, w := range b.Warnings {
		notes = append(notes, w.String())
	}
	static, err := staticOf(b)
	if err != nil {
		return notes, err
	}
	_, err = layersOf(b, c)
	_, unreachable := serversOf(b)
	errs := []error{err, unreachable}
	for _, s := range static {
		if s.Aside {
			continue
		}
		n, err := compileKind(c, s.Kind, s.Body)
		notes = append(notes, n...)
		if !b.Strict && leftOut(err) {
			for _, e := range compile.Reasons(err) {
				notes = append(notes, e.Error())
			}
			continue
		}
		errs = append(errs, err)
	}
	return notes, errors.Join(errs...)
}

// leftOut reports whether a start without --strict leaves a resource of the
// bootstrap out, because of err, and does the rest.
func leftOut(err error) bool {
	reasons := compile.Reasons(err)
	return len(reasons) > 0 && !slices.ContainsFunc(reasons, func(e *compile.Error) bool { return !e.Unsupported() })
}

// compileOne compiles one resource.
func compileOne(c *compile.Compiler, m proto.Message) (notes []string, err error) {
	url := "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName())
	kind, known := xds.KindOf(url)
	if !known {
		return nil, fmt.Errorf("%s is no kind of resource that is asked for: CDS, EDS, LDS, RDS and RTDS are", url)
	}
	wire, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return compileKind(c, kind, wire)
}

func compileKind(c *compile.Compiler, kind xds.Kind, wire []byte) (_ []string, err error) {
	var n compile.Notes
	switch kind {
	case xds.KindCluster:
		_, n, err = c.Cluster(wire)
	case xds.KindEndpoints:
		_, _, n, err = c.Assignment(wire)
	case xds.KindListener:
		_, n, err = c.Listener(wire)
	case xds.KindRoutes:
		_, n, err = c.Routes(wire)
	case xds.KindSecret:
		_, n, err = c.Secret(wire)
	default:
		_, n, err = c.Runtime(wire)
	}
	return n.Ignored, err
}
