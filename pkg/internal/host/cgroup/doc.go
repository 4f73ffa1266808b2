// Package cgroup holds each process of a worker in a leaf of a delegated cgroup v2 subtree.
//
// The layout below the delegated root:
//
//	ROOT/manager/               the manager itself, so that ROOT may have controllers
//	ROOT/workers/               the pool: no processes, its own cgroup.subtree_control
//	ROOT/workers/NAME:17/       one process of one worker, fresh for each generation
//
// Nothing above ROOT is ever written. The intermediate workers/ is there for a
// reason: systemd takes "-memory" out of ROOT's subtree_control when a unit
// stops or another tool asks, and that silently removes the memory.max of
// direct children; with workers/ in between, the kernel refuses it with EBUSY.
package cgroup
