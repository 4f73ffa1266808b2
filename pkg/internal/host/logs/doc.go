// Package logs takes what workers write to standard output and error.
package logs
