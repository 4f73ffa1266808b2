// Package epoll tells one goroutine which of many descriptors can be read.
package epoll
