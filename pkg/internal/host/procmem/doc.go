// Package procmem reads from /proc what the kernel does not tell by itself: who
// belongs to which worker, and how much memory they hold.
package procmem
