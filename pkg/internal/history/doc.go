// Package history keeps what happened, in memory for those who ask and on disk
// for those who ask tomorrow.
package history
