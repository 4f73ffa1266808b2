// Package control is the manager's control socket: HTTP and JSON over a unix
// socket, for those whom the kernel says may.
package control
