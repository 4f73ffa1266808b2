// Package spec says what a worker should be: typed, comparable values that the
// worker list, the manager library and the supervisor share.
package spec
