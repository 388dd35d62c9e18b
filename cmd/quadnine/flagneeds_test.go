package main

import (
	"bytes"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/quadnine/quadnine/snapshot"
)

// samples are values that flags of run take, beside their defaults.
var samples = map[string]string{
	"model-judge": "alpha=0.01", "model-pool": "http://127.0.0.1:1", "model-quota": "1GiB", "model-pool-ca": "x", "model-pool-cert": "x", "model-pool-key": "x",
	"model-bucket": "s3://models", "mode": "validate",
}

// A flag that only says more of what another one asks for is refused without it,
// both named, and accepted with it.
func TestFlagsThatNeedOthers(t *testing.T) {
	seen := make(map[string]bool)
	for _, n := range flagNeeds {
		for _, name := range n.flags {
			seen[name] = true
			for _, one := range append([]string{""}, n.one...) {
				f := newRun().Flags()
				flag := f.Lookup(name)
				if flag == nil || (one != "" && f.Lookup(one) == nil) {
					t.Fatalf("--%s or --%s is no flag", name, one)
				}
				value := samples[name]
				if value == "" {
					value = flag.DefValue
				}
				must(t, f.Set(name, value))
				if one != "" {
					must(t, f.Set(one, "x"))
				}
				err := checkNeeds(f)
				for _, want := range append([]string{name}, n.one...) {
					if one == "" && (err == nil || !strings.Contains(err.Error(), "--"+want)) {
						t.Errorf("--%s alone: %v, want --%s named", name, err, want)
					}
				}
				if one != "" && err != nil && strings.Contains(err.Error(), "--"+name+":") {
					t.Errorf("--%s with --%s: %v", name, one, err)
				}
			}
		}
	}
	newRun().Flags().VisitAll(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Name, "model-") && f.Name != "model-bucket" && !seen[f.Name] {
			t.Errorf("--%s: which flag does it need? see flagNeeds", f.Name)
		}
	})
	var out, errs bytes.Buffer
	if code := execute(t.Context(), []string{"run", "--upstream", "http://127.0.0.1:1", "--models", t.TempDir(), "--model-share-ready", "3s"}, &out, &errs); code != exitUsage ||
		!strings.Contains(errs.String(), "--model-share-ready: has no effect without --model-share: give --model-share too") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// modelFlags are the flags of run that are about models.
func modelFlags() (names []string) {
	newRun().Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "models" || strings.HasPrefix(f.Name, "model-") {
			names = append(names, f.Name)
		}
	})
	slices.Sort(names)
	return names
}

// Each flag about models has a key in quadnine.yaml, and each key a flag, so that
// neither can be forgotten.
func TestEveryModelFlagHasAKey(t *testing.T) {
	if got, want := snapshot.ModelFlags(), modelFlags(); !slices.Equal(got, want) {
		t.Errorf("quadnine.yaml sets %v\nflags are         %v", got, want)
	}
}

const modelsFile = `models:
  dir: drops
  store: store
  ingest: inplace
  keys: [a.pub, b.pub]
  trust: [c.pub]
  quotas: [20GiB, score=5GiB]
  copyLimit: 64MiB
  mlock: true
  reclaim: 30s
  patchMemory: off
  patchTime: 0s
  judge: {alpha: 0.01, atMaxWait: rollback}
  pool: {server: "https://127.0.0.1:1", ca: ca.pem, cert: cert.pem, key: key.pem}
  bucket: {url: s3://models, poll: 5s, tierAfter: 0s}
  share: {socket: models.sock, clients: 3, ready: 1.5s, sealed: 0}
`

// What the file says is what the flags would; the command line goes before it.
func TestModelsOfTheFileAreFlags(t *testing.T) {
	file, err := snapshot.Parse("q.yaml", []byte(modelsFile))
	must(t, err)
	f := newRun().Flags()
	must(t, f.Set("model-reclaim", "7s"))
	at, err := setFromFile(f, "q.yaml", file.Models)
	must(t, err)
	for name, want := range map[string]string{
		"models": "drops", "model-store": "store", "model-ingest": "inplace", "model-key": "[a.pub,b.pub]", "model-trust": "[c.pub]", "model-quota": "[20GiB,score=5GiB]",
		"model-copy-limit": "64MiB", "model-mlock": "true", "model-reclaim": "7s", "model-patch-memory": "off", "model-patch-time": "0s",
		"model-judge": "[alpha=0.01,atMaxWait=rollback]", "model-pool": "https://127.0.0.1:1", "model-pool-ca": "ca.pem", "model-pool-cert": "cert.pem",
		"model-pool-key": "key.pem", "model-bucket": "s3://models", "model-bucket-poll": "5s", "model-tier-after": "0s", "model-share": "models.sock",
		"model-share-clients": "3", "model-share-ready": "1.5s", "model-share-sealed": "0",
	} {
		if got := f.Lookup(name).Value.String(); got != want || !f.Changed(name) {
			t.Errorf("--%s is %s, want %s", name, got, want)
		}
	}
	if got := at("model-share-ready"); got != "q.yaml:16: models.share.ready" {
		t.Errorf("share.ready is at %q", got)
	}
	if got := at("model-reclaim"); got != "" {
		t.Errorf("what the command line says is at %q", got)
	}
}

// An error about what the file says names its line, whoever finds it.
func TestModelsOfTheFileAreChecked(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"models:\n  dri: x\n":                                      `:2: unknown field "dri"; known here: bucket, copyLimit, dir`,
		"models:\n  share: {sockets: x}\n":                         `:2: unknown field "sockets"; known here: clients, ready, sealed, socket`,
		"models: [x]\n":                                            ":1: wrong type: models wants a mapping",
		"models:\n  keys: x\n":                                     ":2: wrong type: models.keys wants a list",
		"models:\n  dir: [x]\n":                                    ":2: wrong type: models.dir wants text or a number",
		"models:\n  dir: x\n  reclaim: 5m\n":                       `:3: "5m" is no duration: write seconds with an s`,
		"models:\n  dir: x\n  dir: y\n":                            `:3: mapping key "dir" already defined at line 2`,
		"models:\n  dir: x\n  mlock: perhaps\n":                    ":3: models.mlock: ",
		"models:\n  dir: x\n  copyLimit: much\n":                   ":3: models.copyLimit: --model-copy-limit: ",
		"models:\n  dir: x\n  quotas: [score=0]\n":                 ":3: models.quotas: --model-quota: ",
		"models:\n  dir: x\n  patchMemory: 3\n":                    ":3: models.patchMemory: --model-patch-memory",
		"models:\n  dir: x\n  ingest: move\n":                      `:3: models.ingest: --model-ingest: is "move": want copy or inplace`,
		"models:\n  dir: x\n  judge: {beta: 2}\n":                  ":3: models.judge: --model-judge: ",
		"models:\n  dir: x\n  share:\n    clients: 0\n":            ":4: models.share.clients: --model-share-clients: is 0",
		"models:\n  dir: x\n  share:\n    ready: 3s\n":             ":4: models.share.ready: --model-share-ready: has no effect without --model-share",
		"models:\n  store: x\n":                                    ":2: models.store: --model-store: has no effect without --models or --model-bucket",
		"models:\n  dir: x\n  keys: [gone.pub]\n":                  ":3: models.keys: --model-key: open gone.pub",
		"models:\n  dir: x\n  trust: [gone.pub]\n":                 ":3: models.trust: --model-trust: open gone.pub",
		"models:\n  dir: \"\"\n  store: x\n":                       `:3: models.store: --model-store: has no effect without --models or --model-bucket`,
		"models:\n  dir: x\n  share: {socket: \"\", ready: 3s}\n":  `:3: models.share.ready: --model-share-ready: has no effect without --model-share`,
		"models:\n  bucket: {url: s3://models, poll: 0.01s}\n":     ":2: models.bucket.poll: --model-bucket-poll 10ms",
		"models:\n  dir: x\n  pool: {server: \"127.0.0.1:18000\"}": ":3: models.pool.server: --model-pool",
	} {
		name := filepath.Join(dir, "q.yaml")
		must(t, os.WriteFile(name, []byte(text), 0o600))
		var out, errs bytes.Buffer
		code := execute(t.Context(), []string{"run", "--upstream", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config", name}, &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), name+want) {
			t.Errorf("%q:\nexit %d: %s\nwant %s", text, code, errs.String(), want)
		}
	}
}

// The page names every key of the file.
func TestConfigPageNamesModelKeys(t *testing.T) {
	page, err := os.ReadFile("../../docs/config.md")
	must(t, err)
	_, rest, ok := strings.Cut(string(page), "```yaml\nmodels:\n")
	example, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("no example of models")
	}
	file, err := snapshot.Parse("docs/config.md", []byte("models:\n"+example))
	must(t, err)
	set := make(map[string]bool)
	for _, s := range file.Models {
		set[s.Flag] = true
	}
	if got, want := slices.Sorted(maps.Keys(set)), snapshot.ModelFlags(); !slices.Equal(got, want) {
		t.Errorf("the example sets %v\nwant %v", got, want)
	}
}

// A directory that cannot be watched leaves no bucket open.
func TestNothingIsLeftOpenWithoutTheDirectory(t *testing.T) {
	gone := t.TempDir()
	t.Chdir(gone)
	must(t, os.Remove(gone)) // so nobody knows where a relative name leads to
	a := newModels(slog.New(slog.DiscardHandler))
	cfg := modelsConfig{
		dir: "drops", store: t.TempDir(), reclaim: time.Second,
		bucket: bucketConfig{url: "s3://models?endpoint=http://127.0.0.1:1", every: time.Second},
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	err := a.open(t.Context(), cfg, func() int64 { return 0 })
	if err == nil || !strings.Contains(err.Error(), "--models: ") || a.bucket != nil || a.source != nil {
		t.Errorf("%v, bucket %v, watcher %v", err, a.bucket, a.source)
	}
}
