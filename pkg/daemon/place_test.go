package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testPlace(t *testing.T) place {
	t.Helper()
	p, err := newPlace(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// A place is made ready over what a killed manager left: its notify sockets go,
// its list and the operator's stops stay.
func TestPlacePrepare(t *testing.T) {
	p := testPlace(t)
	if err := p.prepare(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.notify(), "000001"))
	write(t, p.accepted())
	write(t, filepath.Join(p.runtime, "stopped"))
	if err := os.Chmod(p.runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.prepare(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, p.runtime); got != "accepted n stopped" {
		t.Errorf("there are %s", got)
	}
	if got := names(t, p.notify()); got != "" {
		t.Errorf("sockets of the manager before: %s", got)
	}
	for _, dir := range []string{p.runtime, p.notify()} {
		st, err := os.Stat(dir)
		if err != nil || st.Mode().Perm() != 0o711 {
			t.Errorf("%s has mode %v, %v, want 0711: workers reach their socket and see no other", dir, st.Mode(), err)
		}
	}
}

// Beside a socket in a directory of everybody's, the place may be somebody
// else's: then nothing of what it leads to is touched.
func TestPlaceIsNotOurs(t *testing.T) {
	p := testPlace(t)
	private := filepath.Join(t.TempDir(), "private")
	if err := os.MkdirAll(filepath.Join(private, "n"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(private, "n", "file"))
	if err := os.Symlink(private, p.runtime); err != nil {
		t.Fatal(err)
	}
	err := p.prepare()
	if want := "runtime directory " + p.runtime + ": is no directory of its own (remove it, or choose another --socket)"; err == nil || err.Error() != want {
		t.Errorf("a link is taken: %v, want %s", err, want)
	}
	if st, err := os.Stat(private); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("what it leads to has mode %v, %v", st.Mode(), err)
	}
	if names(t, filepath.Join(private, "n")) != "file" {
		t.Error("what it leads to was removed")
	}

	if os.Geteuid() != 0 {
		t.Skip("that of another user takes root to make")
	}
	p = testPlace(t)
	if err := os.Mkdir(p.runtime, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(p.runtime, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	err = p.prepare()
	if want := "runtime directory " + p.runtime + ": belongs to user 65534 (remove it, or choose another --socket)"; err == nil || err.Error() != want {
		t.Errorf("a directory of another user is taken: %v, want %s", err, want)
	}
}

// In a terminal nothing stays; under systemd an operator's stops do, until the
// machine starts anew.
func TestPlaceRemove(t *testing.T) {
	for _, c := range []struct {
		keep bool
		want string
	}{{true, "s.d"}, {false, ""}} {
		p := testPlace(t)
		if err := p.prepare(); err != nil {
			t.Fatal(err)
		}
		write(t, p.accepted())
		write(t, filepath.Join(p.runtime, "stopped"))
		if err := p.remove(c.keep); err != nil {
			t.Fatal(err)
		}
		if got := names(t, filepath.Dir(p.runtime)); got != c.want {
			t.Errorf("keep %v leaves %q, want %q", c.keep, got, c.want)
		}
		if c.keep {
			if got := names(t, p.runtime); got != "stopped" {
				t.Errorf("an orderly end leaves %s, want the stops alone", got)
			}
		}
	}
}
