package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
)

// image returns the path of version n's image layout.
func (m *modelStand) image(n int) string {
	return filepath.Join(m.dir, "score-v"+strconv.Itoa(n)+".oci")
}

// registry starts Debian's docker-registry and returns its address.
func registry(t *testing.T) string {
	t.Helper()
	addr, dir := addrs(t, 1)[0], t.TempDir()
	config := filepath.Join(dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", filepath.Join(dir, "registry"), addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := tool(t, "docker-registry", "serve", config)
	listening(t, p, addr)
	return addr
}

// skopeo copies an image from one place to another.
func skopeo(t *testing.T, from, to string) {
	t.Helper()
	p := tool(t, "skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", from, to)
	if err := p.Wait(deadline(t, within)); err != nil {
		t.Fatalf("skopeo copy %s %s: %v\n%s", from, to, err, p.Output())
	}
}

// TestModelsFromARegistry pushes three versions as image layouts to a registry, each
// as a delta on the one before, and has skopeo, and oras, which takes the bases along,
// copy them from there right into the watched directory. They become active under
// load and give numpy's numbers.
func TestModelsFromARegistry(t *testing.T) {
	m := withModels(t, 3, 0)
	place := registry(t) + "/score:v"
	at := "docker://" + place
	base := []string{}
	for n := 1; n <= 3; n++ {
		m.pack(t, n, "--canary-weight", "0")
		model(t, append([]string{"oci", m.packed(n), m.image(n)}, base...)...)
		base = []string{"--base", m.image(n)}
		skopeo(t, "oci:"+m.image(n), at+strconv.Itoa(n))
	}
	if whole, image := size(t, m.file(2)), size(t, m.image(2)); image > whole/4 {
		t.Errorf("the layout of version 2 has %d bytes, the version %d: that is no delta", image, whole)
	}
	take := func(n int, copied func(v, to string)) {
		t.Helper()
		copied(strconv.Itoa(n), filepath.Join(m.watched, "score-v"+strconv.Itoa(n)))
		ctx := deadline(t, within)
		if !until(ctx, func() bool { return m.models(ctx).state(n) == "active" }) {
			t.Fatalf("version %d is not active:\n%s", n, mustGet(t, client(t, false), "http://"+m.admin+"/models"))
		}
	}
	bySkopeo := func(v, to string) { skopeo(t, at+v, "oci:"+to) }
	byOras := func(v, to string) {
		p := tool(t, "oras", "copy", "--from-plain-http", place+v, "--to-oci-layout", to+":v"+v)
		if err := p.Wait(deadline(t, within)); err != nil {
			t.Fatalf("oras copy: %v\n%s", err, p.Output())
		}
	}
	take(1, bySkopeo)
	w, loaded := askScores(t, m.sidecar, m.want), loadScores(t, m.sidecar)
	w.await(t, m.sidecar, "answers by version 1", func() bool { return w.count(1) > 200 })
	for i, by := range []func(v, to string){bySkopeo, byOras} {
		n := 2 + i
		take(n, by)
		before := w.count(n)
		w.await(t, m.sidecar, fmt.Sprint("answers by version ", n), func() bool { return w.count(n) > before+200 })
	}
	loaded()
	w.end(t)
}

// TestImageLayoutPage runs every command of docs/oci.md with a real registry, a real
// signer and a sidecar: version 2 becomes active from the copied layout. One that trusts
// the signer's key takes what was signed, and nothing else.
func TestImageLayoutPage(t *testing.T) {
	m := withModels(t, 2, 0)
	signer, err := proc.Find("model-signing")
	if err != nil {
		t.Fatal(err)
	}
	drops := filepath.Join(m.dir, "drops")
	if err := os.Mkdir(drops, 0o755); err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer("registry.example", registry(t), "skopeo copy", "skopeo copy --src-tls-verify=false --dest-tls-verify=false", "python3 -m model_signing", signer)
	lines := shownCommands(t, "oci.md")
	if len(lines) < 10 {
		t.Fatalf("found %d commands in docs/oci.md", len(lines))
	}
	becomes := func(n int) {
		t.Helper()
		ctx := deadline(t, within)
		if !until(ctx, func() bool { return m.models(ctx).state(n) == "active" }) {
			t.Fatalf("version %d is not active:\n%s", n, mustGet(t, client(t, false), "http://"+m.admin+"/models"))
		}
	}
	m.watched = drops
	m.Kill()
	m.restart(t)
	for _, line := range lines {
		runShown(t, m.dir, here.Replace(line))
		if strings.HasSuffix(line, "-o packed/v1") {
			m.move(t, filepath.Join(m.dir, "packed", "v1"), "v1")
			becomes(1)
		}
		if strings.HasSuffix(line, "oci:drops/v2") {
			becomes(2)
		}
	}
	m.Kill()
	m.store = t.TempDir()
	m.sidecar = startSidecar(t, nil, "--upstream", "http://"+m.upstream, "--models", drops, "--model-store", m.store, "--model-trust", filepath.Join(m.dir, "sign.pub"))
	becomes(1)
	ctx := deadline(t, within)
	if !until(ctx, func() bool {
		return strings.Contains(string(mustGet(t, client(t, false), "http://"+m.admin+"/models")), "signature refused: model.sig: no signature")
	}) || m.models(ctx).state(2) != "" {
		t.Fatalf("the unsigned layout is not refused:\n%s", mustGet(t, client(t, false), "http://"+m.admin+"/models"))
	}
}

// shownCommands returns the commands that a page of the documentation shows.
func shownCommands(t *testing.T, page string) (out []string) {
	t.Helper()
	for _, line := range regexp.MustCompile(`(?m)^\$ (.*)$`).FindAllStringSubmatch(string(read(t, filepath.Join("..", "docs", page))), -1) {
		out = append(out, line[1])
	}
	return out
}

// move copies a finished drop into the watched directory in one step.
func (m *modelStand) move(t *testing.T, from, name string) {
	t.Helper()
	part := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(part, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(part, filepath.Join(m.watched, name)); err != nil {
		t.Fatal(err)
	}
}
