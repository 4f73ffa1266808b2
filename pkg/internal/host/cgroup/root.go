package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// managerLeaf is where the manager itself lives below the root.
const managerLeaf = "manager"

// Search says where to look for the delegated root. The zero value looks at
// the real machine; tests give testdata trees.
type Search struct {
	Proc     string // "/proc"
	Override string // --cgroup-root: the operator's word goes before our own finding
	// Given is a cgroup, as /proc/PID/cgroup writes it, of which systemd itself
	// says that it is ours: a user's manager marks none with an attribute.
	Given string
	// Delegated reports whether a directory carries user.delegate=1.
	Delegated func(dir string) bool
}

// Root is a subtree that is ours to arrange.
type Root struct {
	Path string // absolute
	Rel  string // the same as /proc/PID/cgroup writes it
	Own  string // the cgroup that we are in now, absolute
	How  string // why it is ours, for the log
}

// ErrNotDelegated says that the kernel's enforcement would be there, but no
// subtree was given to us: a transient scope may be asked for.
var ErrNotDelegated = errors.New("no cgroup is delegated to this process")

// Find finds the delegated root. Its error is the reason for the fall-back, in
// words for the administrator.
//
// It looks at our own cgroup and at its parent and never climbs further: above
// a terminal of a desktop it would find the user's manager, which is delegated
// too, and not to us. It does not read unit names out of the path either; under
// a user manager the path holds two of them.
func (s Search) Find() (Root, error) {
	if s.Proc == "" {
		s.Proc = "/proc"
	}
	if s.Delegated == nil {
		s.Delegated = delegated
	}
	in, err := s.own()
	if err != nil {
		return Root{}, err
	}
	at := func(path, how string) (Root, error) {
		rel, ok := in.kernel(path)
		if !ok {
			return Root{}, fmt.Errorf("%s is not in the cgroup v2 hierarchy at %s", path, in.mount)
		}
		return Root{Path: path, Rel: rel, Own: in.own, How: how}, nil
	}
	own, parent := in.own, filepath.Dir(in.own)
	ours := func(dir string) bool {
		rel, ok := in.kernel(dir)
		return s.Delegated(dir) || s.Given != "" && ok && rel == s.Given
	}
	switch {
	case s.Override != "":
		root := filepath.Clean(s.Override)
		st, err := os.Stat(root)
		if err != nil {
			return Root{}, err
		}
		if !st.IsDir() || !filepath.IsAbs(root) {
			return Root{}, fmt.Errorf("%s is no absolute path of a directory", root)
		}
		return at(root, "--cgroup-root")
	case ours(own):
		return at(own, "delegated by systemd")
	case filepath.Base(own) == managerLeaf && ours(parent):
		return at(parent, "delegated by systemd")
	}
	return Root{}, fmt.Errorf("%w: %s has no user.delegate=1 (the unit needs Delegate=)", ErrNotDelegated, own)
}

// place is where this process is: the directory of its cgroup, and that path as
// the kernel writes it. mount is where the hierarchy is seen, and top what is
// seen there of it.
type place struct{ own, rel, mount, top string }

func (s Search) own() (p place, err error) {
	b, err := os.ReadFile(filepath.Join(s.Proc, "self/cgroup"))
	if err != nil {
		return p, err
	}
	path, ok := unified(string(b))
	if !ok {
		return p, errors.New("this machine has no cgroup v2 (unified hierarchy)")
	}
	mounts, err := os.ReadFile(filepath.Join(s.Proc, "self/mountinfo"))
	if err != nil {
		return p, err
	}
	p, ok = mounted(string(mounts), path)
	if !ok {
		return p, errors.New("cgroup v2 is not mounted where this process can see itself in it")
	}
	return p, nil
}

// mounted finds the cgroup with a path in the text of /proc/PID/mountinfo.
func mounted(mountinfo, path string) (p place, ok bool) {
	for line := range strings.Lines(mountinfo) {
		// 30 23 0:26 ROOT MOUNTPOINT options… - cgroup2 source superoptions
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if dash < 6 || dash+1 >= len(f) || f[dash+1] != "cgroup2" {
			continue
		}
		top, mount := unescape(f[3]), unescape(f[4])
		if rel, below := below(top, path); below {
			// The last one wins: it may lie over an earlier one.
			p, ok = place{filepath.Join(mount, rel), path, mount, top}, true
		}
	}
	return p, ok
}

// kernel is a directory as the kernel writes it in /proc/PID/cgroup.
func (p place) kernel(dir string) (string, bool) {
	rel, ok := below(p.mount, dir)
	return filepath.Join("/", p.top, rel), ok
}

// unified is the cgroup v2 path in the text of /proc/PID/cgroup.
func unified(s string) (string, bool) {
	for line := range strings.Lines(s) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return p, strings.HasPrefix(p, "/")
		}
	}
	return "", false
}

// below is path relative to root, when it is root or below it.
func below(root, path string) (string, bool) {
	if strings.HasPrefix(path, "/..") {
		return "", false // outside of our cgroup namespace
	}
	if root == "/" {
		return path, true
	}
	rest, ok := strings.CutPrefix(path, root)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// delegated reports whether systemd marked dir as given away. The user.
// namespace is readable by everyone; systemd writes it since 251.
func delegated(dir string) bool {
	var b [8]byte
	n, err := unix.Lgetxattr(dir, "user.delegate", b[:])
	return err == nil && string(b[:n]) == "1"
}
