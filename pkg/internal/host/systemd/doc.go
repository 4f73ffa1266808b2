// Package systemd is the manager's own talk with systemd.
package systemd
