package secure

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
)

// book is a store whose log and events a test looks at.
type book struct {
	*Store
	log          bytes.Buffer
	read, failed int
}

func newBook() *book {
	b := new(book)
	b.Store = NewStore(slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelInfo})), Events{Read: func() { b.read++ }, Failed: func() { b.failed++ }})
	return b
}

// files are a pair's in a directory of their own.
func files(cert, key string) *snapshot.TLS {
	return &snapshot.TLS{Certificates: []snapshot.Certificate{{Chain: snapshot.PEM{Path: cert}, Key: snapshot.PEM{Path: key}}}}
}

func serial(t *testing.T, c *Context) string {
	t.Helper()
	config, err := c.Server(nil)
	if err != nil {
		t.Fatal(err)
	}
	return config.Certificates[0].Leaf.SerialNumber.String()
}

// age makes files look as if they had been there for long, so that nothing but a
// change has them read.
func age(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(p, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesAreReadWhenTheyChange(t *testing.T) {
	ca, b, dir := testkit.NewCA(t, "test"), newBook(), t.TempDir()
	first, second, third := ca.Issue("a"), ca.Issue("a"), ca.Issue("a")
	cert, key := first.Store(t, dir)
	age(t, cert, key)
	c := b.Server(files(cert, key), nil)
	one := serial(t, c)
	before, _ := c.Server(nil)
	if again, _ := c.Server(nil); again != before {
		t.Error("nothing has changed, and the configuration is another one")
	}
	testkit.Replace(t, cert, second.Cert) // and the key not yet
	if got := serial(t, c); got != one || b.failed != 1 {
		t.Errorf("certificate %s, %d failures; want the old one, and one failure", got, b.failed)
	}
	serial(t, c)
	if b.failed != 1 || strings.Count(b.log.String(), "level=WARN") != 1 {
		t.Errorf("%d failures, log %s; want it told once", b.failed, b.log.String())
	}
	testkit.Replace(t, key, second.Key)
	two := serial(t, c)
	if two == one {
		t.Error("the new pair is not used")
	}
	// A change within the same tick of the file system's clock, of the same size, in place.
	if err := os.WriteFile(cert, third.Cert, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, third.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(t, c); got == two {
		t.Error("a change right after another is not seen")
	}
	// Without the files, what there was stays.
	for _, p := range []string{cert, key} {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	if got := serial(t, c); got == one || got == two {
		t.Errorf("certificate %s after the files are gone", got)
	}
	if list := b.Certificates(); len(list) != 1 || list[0].Error == "" || list[0].Where != cert {
		t.Errorf("%+v, want one with an error", list)
	}
	first.Store(t, dir)
	if got := serial(t, c); got != one {
		t.Errorf("certificate %s, want the first one back", got)
	}
	if list := b.Certificates(); list[0].Error != "" {
		t.Errorf("error %q after the files came back", list[0].Error)
	}
}

// TestAMountedSecretIsSwapped: the files are links into a directory that is itself
// exchanged by a link, as Kubernetes does it.
func TestAMountedSecretIsSwapped(t *testing.T) {
	for _, watched := range []bool{false, true} {
		ca, b, dir := testkit.NewCA(t, "test"), newBook(), t.TempDir()
		put := func(name string) {
			t.Helper()
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
			cert, key := ca.Issue("a").Store(t, filepath.Join(dir, name))
			age(t, cert, key, filepath.Join(dir, name))
			link(t, name, filepath.Join(dir, "..data"))
			age(t, dir)
		}
		put("..1")
		link(t, "..data/cert.pem", filepath.Join(dir, "cert.pem"))
		link(t, "..data/key.pem", filepath.Join(dir, "key.pem"))
		age(t, dir)
		rules := files(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
		if watched {
			rules.Certificates[0].Watch = dir
		}
		c := b.Server(rules, nil)
		one := serial(t, c)
		put("..2")
		if watched { // age made the directory look as it did before
			now := time.Now().Add(-time.Minute)
			if err := os.Chtimes(dir, now, now); err != nil {
				t.Fatal(err)
			}
		}
		if got := serial(t, c); got == one {
			t.Errorf("watched %v: the swapped secret is not used", watched)
		}
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestAWatchedDirectoryAloneTells: files that change under it are read when
// something moves into it, not before.
func TestAWatchedDirectoryAloneTells(t *testing.T) {
	ca, b, dir, watched := testkit.NewCA(t, "test"), newBook(), t.TempDir(), t.TempDir()
	cert, key := ca.Issue("a").Store(t, dir)
	age(t, cert, key, watched)
	rules := files(cert, key)
	rules.Certificates[0].Watch = watched
	c := b.Server(rules, nil)
	one := serial(t, c)
	ca.Issue("a").Store(t, dir)
	if got := serial(t, c); got != one {
		t.Error("the files were read before anything moved into the watched directory")
	}
	testkit.Replace(t, filepath.Join(watched, "now"), nil)
	if got := serial(t, c); got == one {
		t.Error("the files were not read after something moved into the watched directory")
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	ca, dir := testkit.NewCA(t, "test"), t.TempDir()
	good, other := ca.Issue("spiffe://td/a"), ca.Issue("b")
	path := func(name string, data []byte) string {
		p := filepath.Join(dir, name)
		testkit.Replace(t, p, data)
		return p
	}
	cert, key, wrong, text := path("cert", good.Cert), path("key", good.Key), path("wrong", other.Key), path("text", []byte("hello"))
	locked := path("locked", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	half := path("half", append(bytes.Clone(ca.PEM), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"...))
	for name, tc := range map[string]struct {
		rules *snapshot.TLS
		want  string
	}{
		"no file":      {files(filepath.Join(dir, "none"), key), "no such file or directory"},
		"no PEM":       {files(text, key), "certificate chain " + text + ": holds no PEM block CERTIFICATE"},
		"key for cert": {files(key, key), "certificate chain " + key + ": holds no PEM block CERTIFICATE"},
		"cert for key": {files(cert, cert), "private key " + cert + ": holds no PEM block PRIVATE KEY"},
		"other key":    {files(cert, wrong), "private key " + wrong + " does not belong to the certificate " + cert + " (for spiffe://td/a)"},
		"encrypted":    {files(cert, locked), "private key " + locked + ": is encrypted, and no password is taken"},
		"bundle":       {&snapshot.TLS{Validation: &snapshot.Validation{Roots: snapshot.PEM{Path: text}}}, "trusted_ca " + text + ": holds no PEM block CERTIFICATE"},
		"half bundle":  {&snapshot.TLS{Validation: &snapshot.Validation{Roots: snapshot.PEM{Path: half}}}, "trusted_ca " + half + ": certificate 2: "},
		"names":        {&snapshot.TLS{Validation: &snapshot.Validation{Names: make([]snapshot.NameMatcher, 1)}}, "names are matched without a trusted_ca"},
		"missing":      {&snapshot.TLS{Missing: "secret a has not come"}, "secret a has not come"},
	} {
		if err := newBook().Server(tc.rules, nil).Check(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v\nwant %s", name, err, tc.want)
		}
	}
}

// TestContextsAreKept: what is equal has one context, what stands in the same files
// is read once, and what nobody uses is forgotten.
func TestContextsAreKept(t *testing.T) {
	ca, b := testkit.NewCA(t, "test"), newBook()
	cert, key := ca.Issue("a").Store(t, t.TempDir())
	rules, same, other := files(cert, key), files(cert, key), files(cert, key)
	other.MinVersion = tls.VersionTLS13
	c := b.Server(rules, []string{"h2"})
	if b.Server(same, []string{"h2"}) != c {
		t.Error("equal rules have two contexts")
	}
	if b.Server(other, []string{"h2"}) == c || b.Server(rules, []string{"http/1.1"}) == c || b.Client(rules) == c {
		t.Error("other rules, or protocols, have the same context")
	}
	serial(t, c)
	serial(t, b.Server(other, nil))
	if b.read != 1 {
		t.Errorf("the files were read %d times for two contexts, want once", b.read)
	}
	b.Keep(map[*snapshot.TLS]bool{other: true})
	if b.Len() != 2 || len(b.Certificates()) != 1 {
		t.Errorf("%d contexts and %d certificates left, want 2 and 1", b.Len(), len(b.Certificates()))
	}
	b.Keep(nil)
	if b.Len() != 0 || len(b.Certificates()) != 0 {
		t.Errorf("%d contexts and %d certificates left, want none", b.Len(), len(b.Certificates()))
	}
}

// TestRefreshTellsWithoutConnections: what changes is known also when nobody
// connects.
func TestRefreshTellsWithoutConnections(t *testing.T) {
	ca, b, dir := testkit.NewCA(t, "test"), newBook(), t.TempDir()
	cert, key := ca.Issue("a").Store(t, dir)
	serial(t, b.Server(files(cert, key), nil))
	ca.IssueUntil(time.Now().Add(24*time.Hour), "a").Store(t, dir)
	b.Refresh()
	if list := b.Certificates(); len(list) != 1 || time.Until(list[0].Ends) > 24*time.Hour || b.read != 2 {
		t.Errorf("%+v after %d reads, want the new certificate's end", list, b.read)
	}
	if !strings.Contains(b.log.String(), "certificates read") {
		t.Errorf("log %q does not tell", b.log.String())
	}
}

// TestKeysAreNotTold: no error and no log holds any of a key.
func TestKeysAreNotTold(t *testing.T) {
	ca, b := testkit.NewCA(t, "test"), newBook()
	pair := ca.Issue("a")
	broken := append(bytes.Clone(pair.Key[:60]), pair.Key[64:]...)
	err := b.Server(&snapshot.TLS{Certificates: []snapshot.Certificate{{Chain: snapshot.PEM{Bytes: pair.Cert}, Key: snapshot.PEM{Bytes: broken}}}}, nil).Check()
	if err == nil {
		t.Fatal("a broken key was taken")
	}
	for at := 30; at+20 < len(broken)-30; at += 10 {
		if part := string(broken[at : at+20]); strings.Contains(err.Error(), part) || strings.Contains(b.log.String(), part) {
			t.Fatalf("a part of the key is told: %v", err)
		}
	}
}

func BenchmarkServer(b *testing.B) {
	ca, dir := testkit.NewCA(b, "test"), b.TempDir()
	cert, key := ca.Issue("a").Store(b, dir)
	old := time.Now().Add(-time.Hour)
	_ = os.Chtimes(cert, old, old)
	_ = os.Chtimes(key, old, old)
	c := NewStore(slog.New(slog.DiscardHandler), Events{}).Server(files(cert, key), nil)
	for b.Loop() {
		if _, err := c.Server(nil); err != nil {
			b.Fatal(err)
		}
	}
}

// TestANameIsVerifiedOrNothing: a context that is to verify the server's name does
// not do without one.
func TestANameIsVerifiedOrNothing(t *testing.T) {
	ca, b := testkit.NewCA(t, "test"), newBook()
	trust := snapshot.PEM{Bytes: ca.PEM}
	for name, tc := range map[string]struct {
		rules *snapshot.TLS
		host  string
		want  string
	}{
		"host":         {&snapshot.TLS{SNIFromHost: true, VerifySNI: true, Validation: &snapshot.Validation{Roots: trust}}, "a", ""},
		"sni":          {&snapshot.TLS{SNI: "b", VerifySNI: true, Validation: &snapshot.Validation{Roots: trust}}, "", ""},
		"neither":      {&snapshot.TLS{SNIFromHost: true, VerifySNI: true, Validation: &snapshot.Validation{Roots: trust}}, "", "the endpoint has no hostname"},
		"names":        {&snapshot.TLS{VerifySNI: true, Validation: &snapshot.Validation{Roots: trust, Names: make([]snapshot.NameMatcher, 1)}}, "", ""},
		"no authority": {&snapshot.TLS{SNI: "b", VerifySNI: true, Validation: new(snapshot.Validation)}, "", "there is no trusted_ca"},
	} {
		config, err := b.Client(tc.rules).Client(tc.host, nil)
		if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if err == nil && config.VerifyConnection == nil {
			t.Errorf("%s: nothing is verified", name)
		}
	}
}
