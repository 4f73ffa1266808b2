// Package host is the machine under the supervisor: Linux.
//
// Each matter of the system has a package below this one; the host puts them
// together and keeps their order. What holds a process tree and measures it is
// behind one interface (enforcer.go) with two implementations: a leaf of
// cgroup v2 (kernel.go), or session, subreaper and /proc (sampled.go).
package host
