// Package backlog keeps who writes from waiting for who reads.
package backlog
