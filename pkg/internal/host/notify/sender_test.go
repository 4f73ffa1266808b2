package notify

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary be a sender of another user.
func TestMain(m *testing.M) {
	if path := os.Getenv("TEST_SEND_TO"); path != "" {
		c, err := net.Dial("unixgram", path)
		if err == nil {
			_, err = c.Write([]byte(os.Getenv("TEST_SEND")))
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// sendAs sends one message as another user.
func sendAs(t *testing.T, uid uint32, path, message string) error {
	t.Helper()
	// The test binary lies where others may not go, so it is handed over open.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Env = []string{"TEST_SEND_TO=" + path, "TEST_SEND=" + message}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "permission denied") {
		t.Fatalf("sending as uid %d: %v: %s", uid, err, out)
	}
	return err
}
