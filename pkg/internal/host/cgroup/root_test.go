package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const service = "/sys/fs/cgroup/system.slice/workersd.service"

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name, dir string
		delegated string // the one directory that carries the mark
		path, rel string
		err       string
	}{
		{"a service", "service", service, service, "/system.slice/workersd.service", ""},
		{"after it moved itself", "service-moved", service, service, "/system.slice/workersd.service", ""},
		{"without Delegate=", "service", "", "", "", "no cgroup is delegated to this process: " + service + " has no user.delegate=1 (the unit needs Delegate=)"},
		{"without Delegate= in a leaf of that name", "service-moved", "", "", "", "has no user.delegate=1"},
		{"a service of a user", "user", "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/workersd.service",
			"/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/workersd.service", "/user.slice/user-1000.slice/user@1000.service/app.slice/workersd.service", ""},
		// The user's manager two levels above is delegated, and not to us.
		{"a terminal of a desktop", "desktop", "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service", "", "", "has no user.delegate=1"},
		{"a terminal directly below something delegated", "desktop", "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice", "", "", "has no user.delegate=1"},
		{"a login", "login", "", "", "", "session-3.scope has no user.delegate=1"},
		{"hybrid", "hybrid", "/sys/fs/cgroup/unified/system.slice/workersd.service", "/sys/fs/cgroup/unified/system.slice/workersd.service", "/system.slice/workersd.service", ""},
		{"cgroup v1", "v1", "", "", "", "this machine has no cgroup v2 (unified hierarchy)"},
		{"a container", "container", "", "", "", "no cgroup is delegated to this process: /sys/fs/cgroup has no user.delegate=1"},
		{"a container with the host's paths", "container-hostns", "/sys/fs/cgroup/app", "/sys/fs/cgroup/app", "/system.slice/docker-0123.scope/app", ""},
		{"outside of its namespace", "outside", "", "", "", "cgroup v2 is not mounted where this process can see itself in it"},
		{"several mounts", "nested", `/mnt/a b\c/machine.slice/box.service`, `/mnt/a b\c/machine.slice/box.service`, "/machine.slice/box.service", ""},
		{"no /proc", "nowhere", "", "", "", "open testdata/nowhere/self/cgroup: no such file or directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, err := Search{Proc: "testdata/" + c.dir, Delegated: func(dir string) bool { return dir == c.delegated }}.Find()
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				if asks := strings.Contains(c.err, "user.delegate"); errors.Is(err, ErrNotDelegated) != asks {
					t.Errorf("ErrNotDelegated is %v", !asks)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if root.Path != c.path || root.Rel != c.rel || root.How != "delegated by systemd" {
				t.Errorf("%+v, want %s and %s", root, c.path, c.rel)
			}
			if !strings.HasPrefix(root.Own, root.Path) {
				t.Errorf("own cgroup %s is not in %s", root.Own, root.Path)
			}
		})
	}
}

// What systemd says is ours needs no mark, in its root and in our leaf of it;
// what is above it does.
func TestFindGiven(t *testing.T) {
	for dir, found := range map[string]bool{"service": true, "service-moved": true, "login": false} {
		root, err := Search{Proc: "testdata/" + dir, Given: "/system.slice/workersd.service", Delegated: func(string) bool { return false }}.Find()
		if found && (err != nil || root.Path != service || root.How != "delegated by systemd") {
			t.Errorf("%s: %+v (%v)", dir, root, err)
		}
		if !found && !errors.Is(err, ErrNotDelegated) {
			t.Errorf("%s: %+v (%v)", dir, root, err)
		}
	}
}

func TestFindOverride(t *testing.T) {
	dir := t.TempDir()
	proc := procOf(t, "/system.slice/shell", "/", dir)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	find := func(dir string) (Root, error) {
		return Search{Proc: proc, Override: dir, Delegated: func(string) bool { return true }}.Find()
	}
	// The operator's word goes before our own finding.
	root, err := find(dir + "/")
	if err != nil || root.Path != dir || root.How != "--cgroup-root" || root.Own != dir+"/system.slice/shell" {
		t.Errorf("%+v (%v)", root, err)
	}
	for bad, want := range map[string]string{
		filepath.Join(dir, "none"): "stat " + dir + "/none: no such file or directory",
		file:                       file + " is no absolute path of a directory",
		".":                        ". is no absolute path of a directory",
	} {
		if _, err := find(bad); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// What --cgroup-root names is known as the kernel writes it, too: by that a
// process is seen to be in it.
func TestOverrideBelowTheMount(t *testing.T) {
	mount := t.TempDir()
	root := filepath.Join(mount, "mine")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	proc := procOf(t, "/box/shell", "/box", mount)
	got, err := Search{Proc: proc, Override: root}.Find()
	if err != nil || got.Rel != "/box/mine" || got.Own != filepath.Join(mount, "shell") {
		t.Errorf("%+v (%v)", got, err)
	}
	got, err = Search{Proc: proc, Override: t.TempDir()}.Find()
	if err == nil {
		t.Errorf("a directory outside of cgroup v2 was taken: %+v", got)
	}
}

// procOf is a /proc with one cgroup2 mount.
func procOf(t *testing.T, own, top, mount string) string {
	t.Helper()
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "self"), 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"cgroup": "0::" + own + "\n", "mountinfo": "610 600 0:26 " + top + " " + mount + " rw - cgroup2 cgroup rw\n",
	} {
		if err := os.WriteFile(filepath.Join(proc, "self", file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return proc
}

func FuzzMountinfo(f *testing.F) {
	for _, dir := range []string{"service", "hybrid", "container-hostns", "nested"} {
		b, err := os.ReadFile("testdata/" + dir + "/self/mountinfo")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b), "/system.slice/docker-0123.scope/app")
	}
	f.Fuzz(func(t *testing.T, text, path string) {
		p, ok := mounted(text, path)
		if !ok {
			return
		}
		// The way there and back again.
		if rel, ok := p.kernel(p.own); filepath.IsAbs(p.mount) && filepath.Clean(p.mount) == p.mount && filepath.Clean(path) == path && (!ok || rel != path) {
			t.Errorf("%s is at %+v, which is %s (%v)", path, p, rel, ok)
		}
	})
}
