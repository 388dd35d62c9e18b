package xds

import (
	"slices"
	"strconv"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// change is a kind of change.
type change struct {
	name string
	make func(*world) error
}

// changes are the kinds of the table.
func changes() []change {
	return []change{{"route edit", editRoute}, {"endpoint edit", editEndpoint}, {swap, swapAll}}
}

// swap is the change whose answers other than 200 are told.
const swap = "swap of cluster, endpoints and route"

// editRoute changes one route: what it adds to the answer.
func editRoute(w *world) error {
	w.route++
	w.routes = slices.Clone(w.routes)
	w.routes[0] = w.probe()
	w.changed[types.Route] = true
	return nil
}

// editEndpoint moves one cluster to the other backend.
func editEndpoint(w *world) error {
	w.backend = 1 - w.backend
	w.endpoints = slices.Clone(w.endpoints)
	w.endpoints[0] = w.assignment(w.cluster, w.backend)
	w.changed[types.Endpoint] = true
	return nil
}

// swapAll replaces the probe's cluster by a new one with endpoints of its own,
// and its route, in one snapshot: the cluster that was there is gone.
func swapAll(w *world) error {
	w.cluster = "probe-" + strconv.Itoa(w.versions)
	w.backend = 1 - w.backend
	w.clusters, w.endpoints = slices.Clone(w.clusters), slices.Clone(w.endpoints)
	w.clusters[0], w.endpoints[0] = w.newCluster(w.cluster), w.assignment(w.cluster, w.backend)
	w.changed[types.Cluster], w.changed[types.Endpoint] = true, true
	return editRoute(w)
}

// wrap returns v as a message.
func wrap(v uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(v) }
