package statsapp

import (
	"context"
	"errors"
	"io"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/quadnine/quadnine/examples/statsapp/statsv1"
)

func (a *App) newGRPC() *grpc.Server {
	s := grpc.NewServer(grpc.MaxRecvMsgSize(maxQuery))
	statsv1.RegisterStatsServer(s, statsServer{app: a})
	return s
}

// serveGRPC hands a call to grpc-go, and aborts its stream afterwards when a
// fault asked for that: grpc-go runs the methods on goroutines of its own,
// where http.ErrAbortHandler would end the process.
func (a *App) serveGRPC(w http.ResponseWriter, r *http.Request) {
	cut := new(cut)
	ctx := context.WithValue(r.Context(), cutKey{}, cut)
	a.grpc.ServeHTTP(&cutWriter{ResponseWriter: w, cut: cut}, r.WithContext(ctx))
	if cut.at.Load() != nil {
		panic(http.ErrAbortHandler)
	}
}

// statsServer is the gRPC face of an App.
type statsServer struct {
	statsv1.UnimplementedStatsServer
	app *App
}

// Query answers one query.
func (s statsServer) Query(ctx context.Context, req *statsv1.QueryRequest) (*statsv1.QueryReply, error) {
	return s.app.call(ctx, req)
}

// Watch answers each query of the stream.
func (s statsServer) Watch(stream grpc.BidiStreamingServer[statsv1.QueryRequest, statsv1.QueryReply]) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		reply, err := s.app.call(stream.Context(), req)
		if err != nil {
			return err
		}
		if err := stream.Send(reply); err != nil {
			return err
		}
		if cutOf(stream.Context()).at.Load() != nil {
			return errCut
		}
	}
}

// errCut ends a method whose stream is aborted: its status is never sent.
var errCut = status.Error(codes.Internal, "stream aborted by a fault")

// call answers one message, unless a fault is due.
func (a *App) call(ctx context.Context, req *statsv1.QueryRequest) (*statsv1.QueryReply, error) {
	q := fromProto(req)
	if v := metadata.ValueFromIncomingContext(ctx, "x-tenant-id"); len(v) > 0 {
		q.Tenant = v[0]
	}
	if q.Tenant != "" {
		a.counters.request(q.Tenant)
	}
	f, hit := a.faults.draw(q.Tenant)
	if hit {
		if !f.wait(ctx) {
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		switch f.Kind {
		case Error:
			return nil, status.Error(f.code(), "fault error is switched on for tenant "+q.Tenant)
		case Hang:
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		case Reset:
			cutOf(ctx).here(false)
			return nil, errCut
		}
	}
	result, err := a.Query(q)
	if err != nil {
		code := codes.InvalidArgument
		if e, ok := errors.AsType[*QueryError](err); ok && e.Unknown {
			code = codes.NotFound
		}
		return nil, status.Error(code, err.Error())
	}
	cut := cutOf(ctx)
	if hit && f.Kind == Partial {
		cut.here(true)
	}
	cut.replies++
	return toProto(q, result), nil
}

// code returns the gRPC code of an Error, by the meaning of its status.
func (f *Fault) code() codes.Code {
	switch f.status() {
	case http.StatusInternalServerError:
		return codes.Internal
	case http.StatusNotImplemented:
		return codes.Unimplemented
	case http.StatusGatewayTimeout:
		return codes.DeadlineExceeded
	default:
		return codes.Unavailable
	}
}

func fromProto(req *statsv1.QueryRequest) Query {
	q := newQuery()
	q.Tenant, q.Metric, q.Event = req.GetTenant(), req.GetMetric(), req.GetEvent()
	q.Approx, q.Steps = req.GetApprox(), req.GetSteps()
	q.From = req.GetFromMs()
	if req.ToMs != nil {
		q.To = req.GetToMs()
	}
	return q
}

func toProto(q Query, r *Result) *statsv1.QueryReply {
	p := &statsv1.QueryReply{
		Tenant: r.Tenant, Metric: r.Metric, FromMs: q.From, ToMs: q.To,
		Value: r.Value, Exact: r.Exact, Method: r.Method, Events: r.Events,
		TotalDurationMs: r.TotalDurationMS,
	}
	for _, s := range r.Steps {
		p.Steps = append(p.Steps, &statsv1.Step{Event: s.Event, Users: s.Users})
	}
	return p
}
