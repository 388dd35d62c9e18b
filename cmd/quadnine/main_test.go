package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Equal(os.Args[1:], applyPatchArgs) { // a sidecar of a test has started its child
		main()
	}
	testscript.Main(m, map[string]func(){
		"quadnine": main,
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Cmds: modelCommands, UpdateScripts: os.Getenv("UPDATE") != ""})
}

func TestExitCodes(t *testing.T) {
	for want, args := range map[int][]string{
		exitOK:    {"version"},
		exitUsage: {"run", "--no-such-flag"},
		exitShort: {"healthcheck", "--admin", "127.0.0.1:1"},
	} {
		var out, errs bytes.Buffer
		if got := execute(t.Context(), args, &out, &errs); got != want {
			t.Errorf("%v: exit %d, want %d (%s)", args, got, want, errs.String())
		}
	}
}

func TestPortInUse(t *testing.T) {
	s := newStand(t, standConfig{})
	var out, errs bytes.Buffer
	code := execute(t.Context(), []string{"run", "--upstream", "http://127.0.0.1:1", "--admin", "127.0.0.1:0", "--listen", s.side.Addr()}, &out, &errs)
	if code != exitFailure || !strings.Contains(errs.String(), "address already in use: is another program on that port? choose another with --listen") {
		t.Fatalf("exit %d, stderr %q", code, errs.String())
	}
}
