package telemetry

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
)

// quiet clears the environment that decides about exports.
func quiet(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES",
		"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER",
	} {
		t.Setenv(name, "")
	}
	for _, signal := range []string{"", "TRACES_", "METRICS_", "LOGS_"} {
		t.Setenv("OTEL_EXPORTER_OTLP_"+signal+"ENDPOINT", "")
		t.Setenv("OTEL_EXPORTER_OTLP_"+signal+"PROTOCOL", "")
	}
}

func TestSetupWithoutReceiver(t *testing.T) {
	quiet(t)
	var out bytes.Buffer
	tel, err := Setup(t.Context(), Options{LogWriter: &out})
	if err != nil {
		t.Fatal(err)
	}
	tel.Logger.Debug("unseen")
	tel.Logger.Info("version promoted", "model", "m")
	if got := out.String(); !strings.Contains(got, `msg="version promoted" model=m`) || strings.Contains(got, "unseen") {
		t.Errorf("log %q", got)
	}
	if tel.Tracer != nil || len(tel.exporting) != 0 {
		t.Errorf("exporting although nothing is configured: %+v", tel)
	}
	if tel.Registry.log() != tel.Logger {
		t.Error("the registry does not use the logger that was set up")
	}
	if err := errors.Join(tel.Flush(t.Context()), tel.Shutdown(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestLogFormatAndLevel(t *testing.T) {
	quiet(t)
	var out bytes.Buffer
	tel, err := Setup(t.Context(), Options{LogWriter: &out, LogFormat: "json", LogLevel: slog.LevelWarn})
	if err != nil {
		t.Fatal(err)
	}
	tel.Logger.Info("unseen")
	tel.Logger.Warn("breaker opened")
	if got := out.String(); !strings.HasPrefix(got, "{") || !strings.Contains(got, `"msg":"breaker opened"`) || strings.Contains(got, "unseen") {
		t.Errorf("log %q", got)
	}
}

func TestBadOptionsAreRefusedWithTheReason(t *testing.T) {
	for _, tc := range []struct {
		name     string
		options  Options
		variable string
		value    string
		says     []string
	}{
		{"log format", Options{LogFormat: "xml"}, "", "", []string{`"xml"`, "text or json"}},
		{"no scheme", Options{Endpoint: "127.0.0.1:4318"}, "", "", []string{"endpoint", "127.0.0.1:4318"}},
		{"no host", Options{Endpoint: "http://"}, "", "", []string{"endpoint", "want a URL such as"}},
		{"grpc scheme", Options{Endpoint: "grpc://h:4317"}, "", "", []string{"want a URL such as"}},
		{"variable", Options{}, "OTEL_EXPORTER_OTLP_ENDPOINT", "collector", []string{"OTEL_EXPORTER_OTLP_ENDPOINT", `"collector"`}},
		{"variable of a signal", Options{}, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "h:1", []string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"}},
		{"protocol", Options{}, "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", []string{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "http/protobuf", "4318"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			quiet(t)
			if tc.variable != "" {
				t.Setenv(tc.variable, tc.value)
			}
			tc.options.LogWriter = io.Discard
			tel, err := Setup(t.Context(), tc.options)
			if !errors.Is(err, ErrOption) || tel != nil {
				t.Fatalf("%v, %v; want ErrOption and nothing built", tel, err)
			}
			for _, want := range tc.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than one line", err)
			}
		})
	}
}

func TestEnvironmentChoosesSignals(t *testing.T) {
	all := map[string]signal{"traces": traces, "metrics": metrics, "logs": logs}
	for _, tc := range []struct {
		name     string
		endpoint string
		env      map[string]string
		on       string
	}{
		{"nothing", "", nil, ""},
		{"all", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1"}, "logs metrics traces"},
		{"one", "", map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h:1/x"}, "metrics"},
		{"all but one", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1", "OTEL_TRACES_EXPORTER": "none"}, "logs metrics"},
		{"disabled", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1", "OTEL_SDK_DISABLED": "TRUE"}, ""},
		{"explicit", "http://h:1", map[string]string{"OTEL_SDK_DISABLED": "true"}, "logs metrics traces"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			quiet(t)
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			var on []string
			for _, name := range []string{"logs", "metrics", "traces"} {
				if all[name].on(&Options{Endpoint: tc.endpoint}) {
					on = append(on, name)
				}
			}
			if got := strings.Join(on, " "); got != tc.on {
				t.Fatalf("exports %q, want %q", got, tc.on)
			}
		})
	}
}
