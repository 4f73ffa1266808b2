package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// Bus says whose systemd is asked.
type Bus uint8

const (
	SystemBus Bus = iota // the system's; takes root
	UserBus              // the user's own manager
)

// ErrNoSystemd says that there is no systemd to ask: a container, another init,
// or a session without a user manager.
var ErrNoSystemd = errors.New("systemd cannot be asked")

// StartScope asks systemd for a transient scope with Delegate=yes for this
// process, and returns the cgroup it is in then ("/system.slice/NAME.scope").
// The scope goes away with its last process.
func StartScope(ctx context.Context, unit string, bus Bus) (string, error) {
	conn, err := connectSystemd(ctx, bus)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	// Room for the one result: the library must never wait for us.
	result := make(chan string, 1)
	properties := []dbus.Property{
		dbus.PropDescription("workersd in a terminal"),
		dbus.PropPids(uint32(os.Getpid())),
		{Name: "Delegate", Value: godbus.MakeVariant(true)},
		// Nobody would clean a failed one up.
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
		{Name: "TasksMax", Value: godbus.MakeVariant(^uint64(0))},
	}
	if _, err := conn.StartTransientUnitContext(ctx, unit, "fail", properties, result); err != nil {
		return "", fmt.Errorf("systemd refused the scope %s: %w", unit, err)
	}
	select {
	case r := <-result:
		if r != "done" {
			return "", fmt.Errorf("systemd did not start the scope %s: %s", unit, r)
		}
	case <-ctx.Done():
		return "", fmt.Errorf("systemd did not start the scope %s in time: %w", unit, context.Cause(ctx))
	}
	return ownCgroup("/proc/self/cgroup", unit)
}

// Delegated asks the service manager for the cgroup of the unit that this
// process is in ("/user.slice/…/NAME.service"). It is an error if the unit has
// no Delegate=. The system's manager marks such a cgroup with an extended
// attribute, a user's does not.
func Delegated(ctx context.Context, bus Bus) (string, error) {
	conn, err := connectSystemd(ctx, bus)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	unit, err := conn.GetUnitNameByPID(ctx, uint32(os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("systemd does not know which unit we are in: %w", err)
	}
	kind := "Service"
	if strings.HasSuffix(unit, ".scope") {
		kind = "Scope"
	}
	properties, err := conn.GetUnitTypePropertiesContext(ctx, unit, kind)
	if err != nil {
		return "", fmt.Errorf("systemd does not tell about %s: %w", unit, err)
	}
	cgroup, _ := properties["ControlGroup"].(string)
	if is, _ := properties["Delegate"].(bool); !is || cgroup == "" {
		return "", fmt.Errorf("%s has no Delegate=", unit)
	}
	return cgroup, nil
}

// connectSystemd uses systemd's private socket, which needs no D-Bus daemon and
// is what systemctl uses, and falls back to the bus.
func connectSystemd(ctx context.Context, bus Bus) (*dbus.Conn, error) {
	private, public := "/run/systemd/private", os.Getenv("DBUS_SYSTEM_BUS_ADDRESS")
	if public == "" {
		public = "unix:path=/run/dbus/system_bus_socket"
	}
	if bus == UserBus {
		dir := os.Getenv("XDG_RUNTIME_DIR")
		if dir == "" {
			return nil, fmt.Errorf("%w: XDG_RUNTIME_DIR is not set, so there is no user manager here", ErrNoSystemd)
		}
		private, public = path.Join(dir, "systemd/private"), os.Getenv("DBUS_SESSION_BUS_ADDRESS")
		if public == "" {
			public = "unix:path=" + godbus.EscapeBusAddressValue(path.Join(dir, "bus"))
		}
	}
	conn, err := dbus.NewConnection(func() (*godbus.Conn, error) {
		return dial(ctx, "unix:path="+godbus.EscapeBusAddressValue(private), false)
	})
	if err == nil {
		return conn, nil
	}
	conn, err2 := dbus.NewConnection(func() (*godbus.Conn, error) { return dial(ctx, public, true) })
	if err2 == nil {
		// Without it systemd does not send JobRemoved to the bus.
		if err2 = conn.Subscribe(); err2 == nil {
			return conn, nil
		}
		conn.Close()
	}
	return nil, fmt.Errorf("%w: %w; %w", ErrNoSystemd, err, err2)
}

func dial(ctx context.Context, address string, hello bool) (*godbus.Conn, error) {
	c, err := godbus.Dial(address, godbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	// The uid as a number: a name would take a look-up.
	err = c.Auth([]godbus.Auth{godbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	if err == nil && hello {
		err = c.Hello()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ownCgroup reads where we are in the unified hierarchy, and checks that it is
// the unit's.
func ownCgroup(file, unit string) (string, error) {
	p, err := unifiedPath(file)
	if err == nil && path.Base(p) != unit {
		err = fmt.Errorf("systemd started the scope %s, but this process is in %s", unit, p)
	}
	if err != nil {
		return "", err
	}
	return p, nil
}

// OwnUnit is the unit of the system's manager that this process is in, as
// journald reads it: the first part of the cgroup's path that is no slice. It
// is "" where there is none.
func OwnUnit() string { return ownUnit("/proc/self/cgroup") }

func ownUnit(file string) string {
	p, err := unifiedPath(file)
	if err != nil {
		return ""
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(p, "/"), "/") {
		switch {
		case strings.HasSuffix(part, ".slice"):
		case strings.HasSuffix(part, ".service"), strings.HasSuffix(part, ".scope"):
			return part
		default:
			return ""
		}
	}
	return ""
}

// unifiedPath is our cgroup as the text of /proc/self/cgroup has it.
func unifiedPath(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s has no line of cgroup v2 (0::)", file)
}
