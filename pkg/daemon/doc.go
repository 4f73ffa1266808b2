// Package daemon wires the parts into the program workersd.
package daemon
