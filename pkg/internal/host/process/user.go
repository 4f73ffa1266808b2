package process

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// User is who a worker runs as.
type User struct {
	Name, Home, Shell string
	UID, GID          int
	Groups            []int
}

func (u *User) credential() *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}
	for _, g := range u.Groups {
		c.Groups = append(c.Groups, uint32(g))
	}
	// An unprivileged manager may not set groups, and has them already.
	c.NoSetGroups = os.Geteuid() != 0
	return c
}

// Users looks users up, and remembers them for as long as the files of users
// and groups stay as they are.
type Users struct {
	mu    sync.Mutex // guards all below
	known map[[2]string]*User
	stamp [2]time.Time
}

// Lookup finds user and group, by name or number. Without both it is nil: the
// process stays who we are.
func (us *Users) Lookup(name, group string) (*User, error) {
	if name == "" && group == "" {
		return nil, nil
	}
	now := stamps()
	key := [2]string{name, group}
	us.mu.Lock()
	if now != us.stamp || us.known == nil {
		us.known, us.stamp = map[[2]string]*User{}, now
	}
	u := us.known[key]
	us.mu.Unlock()
	if u != nil {
		return u, nil
	}
	// Without the lock: a directory service that hangs holds up this start.
	u, err := lookup(name, group)
	if err != nil {
		return nil, err
	}
	us.mu.Lock()
	defer us.mu.Unlock()
	if us.stamp == now {
		us.known[key] = u
	}
	return u, nil
}

func stamps() (s [2]time.Time) {
	for i, f := range []string{"/etc/passwd", "/etc/group"} {
		if st, err := os.Stat(f); err == nil {
			s[i] = st.ModTime()
		}
	}
	return s
}

func lookup(name, group string) (*User, error) {
	u := &User{Name: name, UID: os.Geteuid(), GID: os.Getegid()}
	if name == "" {
		name = strconv.Itoa(u.UID)
	}
	if err := u.identify(name); err != nil {
		return nil, err
	}
	if group == "" {
		return u, nil
	}
	gid, err := lookupGroup(group)
	if err != nil {
		return nil, err
	}
	u.GID = gid
	return u, nil
}

// identify makes u the user of a name or number.
func (u *User) identify(name string) error {
	p, err := user.Lookup(name)
	id, numErr := parseID(name)
	if err != nil && numErr == nil {
		p, err = user.LookupId(name)
	}
	switch {
	case err == nil:
		u.Name, u.Home = p.Username, p.HomeDir
		if u.UID, err = parseID(p.Uid); err != nil {
			return fmt.Errorf("user %q has the uid %s, which no process can have", name, p.Uid)
		}
		if u.GID, err = parseID(p.Gid); err != nil {
			return fmt.Errorf("user %q has the gid %s, which no process can have", name, p.Gid)
		}
		u.Groups = groupsOf(p)
		u.Shell = shellOf(p.Username)
	case numErr == nil: // a number that nobody has may be used all the same
		u.Name, u.UID, u.GID = name, id, id
	default:
		return unusable("user", name, numErr)
	}
	return nil
}

func lookupGroup(name string) (gid int, err error) {
	g, err := user.LookupGroup(name)
	if err == nil {
		if gid, err = parseID(g.Gid); err != nil {
			return 0, fmt.Errorf("group %q has the gid %s, which no process can have", name, g.Gid)
		}
		return gid, nil
	}
	if gid, err = parseID(name); err != nil {
		return 0, unusable("group", name, err)
	}
	return gid, nil
}

// maxID is the largest user or group id: one more is (uid_t)-1, with which
// setresuid(2) changes nothing.
const maxID = 1<<32 - 2

// parseID reads a user or group id. The kernel would see 32 bits of a larger one,
// which are root's at worst.
func parseID(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && n > maxID {
		err = strconv.ErrRange
	}
	return int(n), err
}

// unusable says of a key what is wrong with a name that nobody has and that is
// no id either.
func unusable(key, name string, err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%s %q is too large a number: %d is the largest (correct %s)", key, name, maxID, key)
	}
	return fmt.Errorf("%s %q does not exist (make it, or correct %s)", key, name, key)
}

func groupsOf(p *user.User) (ids []int) {
	groups, err := p.GroupIds()
	if err != nil {
		return nil
	}
	for _, g := range groups {
		if id, err := parseID(g); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}
