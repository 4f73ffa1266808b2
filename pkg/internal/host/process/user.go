package process

import (
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
	p, err := user.Lookup(name)
	if err != nil {
		p, err = user.LookupId(name)
	}
	switch id, numErr := strconv.Atoi(name); {
	case err == nil:
		u.Name, u.Home = p.Username, p.HomeDir
		u.UID, _ = strconv.Atoi(p.Uid)
		u.GID, _ = strconv.Atoi(p.Gid)
		u.Groups = groupsOf(p)
		u.Shell = shellOf(p.Username)
	case numErr == nil && id >= 0: // a number that nobody has may be used all the same
		u.Name, u.UID, u.GID = name, id, id
	default:
		return nil, fmt.Errorf("user %q does not exist (make it, or correct user)", name)
	}
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			g, err = user.LookupGroupId(group)
		}
		id, numErr := strconv.Atoi(group)
		switch {
		case err == nil:
			u.GID, _ = strconv.Atoi(g.Gid)
		case numErr == nil && id >= 0:
			u.GID = id
		default:
			return nil, fmt.Errorf("group %q does not exist (make it, or correct group)", group)
		}
	}
	return u, nil
}

func groupsOf(p *user.User) (ids []int) {
	groups, err := p.GroupIds()
	if err != nil {
		return nil
	}
	for _, g := range groups {
		if id, err := strconv.Atoi(g); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}
