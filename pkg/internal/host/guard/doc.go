// Package guard is the parent of a manager in a terminal: when the manager is
// killed, it ends what the manager left.
//
// Under systemd the unit does that (KillMode=mixed). In a terminal nobody
// would, so a tiny process stands between the shell and the manager. It is a
// subreaper: every orphan of the manager becomes its child, also one that made
// a session of its own.
package guard
