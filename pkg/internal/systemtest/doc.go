// Package systemtest shows on a real systemd and a real cgroup v2 what no fake can show.
//
// Its tests run as root in the VM of deploy/vm (make test-vm) and nowhere else:
// they start and stop units, run the machine out of memory and restart journald.
// Elsewhere they are only compiled.
package systemtest
