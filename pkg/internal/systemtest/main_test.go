package systemtest

import (
	"fmt"
	"os"
	"testing"
)

// The tests change the machine they run on, so only the VM's own call runs them.
func TestMain(m *testing.M) {
	if os.Getenv("WORKERSD_VM") == "" {
		fmt.Println("systemtest: compiled only; these tests run in the VM: make test-vm")
		return
	}
	os.Exit(m.Run())
}
