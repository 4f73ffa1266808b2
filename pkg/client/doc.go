// Package client talks to a running workersd over its control socket.
package client
