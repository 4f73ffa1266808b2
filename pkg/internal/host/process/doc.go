// Package process starts processes, learns of their ends, and signals them.
package process
