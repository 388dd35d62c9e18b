package xds

import (
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/xds/compile"
)

// Plane is the data plane as the Applier needs it. It is called by one goroutine
// at a time.
type Plane interface {
	// Listen opens the address of l and its access logs, so that Apply can serve
	// it. It does nothing when l's name has them open already. Its error is told to
	// the server; one of an access log is a *fs.PathError. Apply closes what was opened and is not in its snapshot.
	Listen(l *snapshot.Listener) error
	// Apply replaces the configuration in one step: new listeners are served,
	// missing ones drain, and clusters keep of their endpoints, pools and breakers
	// what stays the same. On an error nothing has changed.
	Apply(s *snapshot.Snapshot) error
	// Uses reports whether exchanges that run now are on the cluster.
	Uses(cluster string) bool
}

// Compiler turns the bytes inside an Any into parts of a snapshot.
// *compile.Compiler is one.
type Compiler interface {
	Listener(wire []byte) (*snapshot.Listener, compile.Notes, error)
	Routes(wire []byte) (*snapshot.RouteTable, compile.Notes, error)
	Cluster(wire []byte) (*snapshot.ClusterSettings, compile.Notes, error)
	Assignment(wire []byte) (string, *snapshot.Assignment, compile.Notes, error)
	Runtime(wire []byte) (snapshot.RuntimeLayer, compile.Notes, error)
	Secret(wire []byte) (*snapshot.Secret, compile.Notes, error)

	// These drop what is kept of what is gone.
	Forget(table string)
	ForgetListener(name string)
	ForgetCluster(name string)
	ForgetAssignment(name string)
	ForgetSecret(name string)
}
