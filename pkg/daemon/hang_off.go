//go:build !workersd_hang

package daemon

// mayHang is a test's way to a loop that stands still; see hang_on.go.
func mayHang() {}
