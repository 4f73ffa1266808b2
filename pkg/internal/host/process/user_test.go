package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLookup(t *testing.T) {
	var users Users
	u, err := users.Lookup("root", "")
	if err != nil {
		t.Fatal(err)
	}
	if u.Name != "root" || u.UID != 0 || u.GID != 0 || u.Home != "/root" || !strings.HasPrefix(u.Shell, "/") {
		t.Errorf("root is %+v", u)
	}
	if again, _ := users.Lookup("root", ""); again != u {
		t.Error("looked up again while nothing has changed")
	}
	if u, err = users.Lookup("0", "65533"); err != nil || u.Name != "root" || u.GID != 65533 {
		t.Errorf("0, group 65533: %+v, %v", u, err)
	}
	if u, err = users.Lookup("54321", ""); err != nil || u.Name != "54321" || u.UID != 54321 || u.GID != 54321 || u.Home != "" || len(u.Groups) != 0 {
		t.Errorf("a number that nobody has: %+v, %v", u, err)
	}
	if u, err = users.Lookup("4294967294", "4294967294"); err != nil || u.UID != 4294967294 || u.GID != 4294967294 {
		t.Errorf("the largest number: %+v, %v", u, err)
	}
	if u, err = users.Lookup("", ""); u != nil || err != nil {
		t.Errorf("nobody in particular: %+v, %v", u, err)
	}
	if u, err = users.Lookup("", "root"); err != nil || u.UID != os.Geteuid() || u.GID != 0 {
		t.Errorf("group alone: %+v, %v", u, err)
	}
	for _, c := range []struct{ user, group, want string }{
		{"nosuchuser", "", `user "nosuchuser" does not exist (make it, or correct user)`},
		{"root", "nosuchgroup", `group "nosuchgroup" does not exist (make it, or correct group)`},
		{"-5", "", `user "-5" does not exist (make it, or correct user)`},
		// The kernel would see the lower 32 bits: root, and "do not change" (-1).
		{"4294967296", "", `user "4294967296" is too large a number: 4294967294 is the largest (correct user)`},
		{"4294967295", "", `user "4294967295" is too large a number: 4294967294 is the largest (correct user)`},
		{"18446744073709551616", "", `user "18446744073709551616" is too large a number: 4294967294 is the largest (correct user)`},
		{"root", "4294967296", `group "4294967296" is too large a number: 4294967294 is the largest (correct group)`},
		{"root", "4294967295", `group "4294967295" is too large a number: 4294967294 is the largest (correct group)`},
	} {
		if _, err := users.Lookup(c.user, c.group); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestLook(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, other := t.TempDir(), t.TempDir()
	if err := os.WriteFile(dir+"/tool", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other+"/tool", nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want, err string }{
		{"tool", dir + ":" + other, other + "/tool", ""},
		{"/abs/tool", dir, "/abs/tool", ""},
		{"./tool", dir, "./tool", ""},
		{"tool", dir, "", "command " + dir + "/tool is not executable (chmod +x)"},
		{"nothing", dir, "", "command nothing does not exist in PATH " + dir + " (write its full path, or set PATH in environment)"},
		{filepath.Base(exe), dir, exe, ""}, // beside us
		{"tool", ".:relative", "", "command tool does not exist in PATH .:relative (write its full path, or set PATH in environment)"},
	} {
		got, err := Look(c.name, c.path)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != c.want || text != c.err {
			t.Errorf("Look(%q, %q): %q, %q", c.name, c.path, got, text)
		}
	}
	if got, err := Look("sh", ""); err != nil || !strings.HasSuffix(got, "/sh") {
		t.Errorf("without PATH: %q, %v", got, err)
	}
}
