// Package room bounds how many do something at a time, and who hangs does not
// count.
package room
