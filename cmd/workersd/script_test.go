package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/workersd/workersd/pkg/client"
)

// patience bounds every wait for a condition: far more than any machine needs,
// so that only a condition that never comes true fails.
const patience = 2 * time.Minute

// TestScripts runs the built programs as a person would, in terminal mode.
func TestScripts(t *testing.T) {
	bin := buildPrograms(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
			env.Setenv("NO_COLOR", "1")
			// A socket path has at most 107 bytes; the script's directory may be long.
			dir, err := os.MkdirTemp("", "wd")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("RUN", dir)
			env.Setenv("WORKERSD_SOCKET", filepath.Join(dir, "s"))
			// Every process of this script carries it: what is left can be found.
			env.Setenv("SCRIPT_MARK", dir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"until":     until,
			"noworker":  noWorker,
			"signal":    signal,
			"tell":      tell,
			"garbage":   garbage,
			"smalldisk": smallDisk,
			"same":      same,
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		RequireExplicitExec: true,
	})
}

func buildPrograms(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	args := []string{"build", "-o", bin + "/"}
	if raceEnabled {
		args = append(args, "-race")
	}
	args = append(args, "github.com/workersd/workersd/cmd/workersd", "github.com/workersd/workersd/cmd/workersctl",
		"github.com/workersd/workersd/deploy/examples/listener")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return bin
}

// until PATTERN CMD ARG...: runs CMD until its output matches, or fails. With a
// leading "!" until it does not match. The output is in $WORK/until.out.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until PATTERN CMD [ARG...]")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var out []byte
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		path := args[1]
		if !strings.Contains(path, "/") {
			path = lookPath(ts.Getenv("PATH"), path)
		}
		cmd := exec.Command(path, args[2:]...)
		cmd.Dir = ts.Getenv("WORK")
		for _, k := range []string{"PATH", "WORKERSD_SOCKET", "NO_COLOR", "WORK", "RUN", "SCRIPT_MARK", "HOME"} {
			cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
		}
		out, _ = cmd.CombinedOutput()
		if re.Match(out) != neg {
			ts.Check(os.WriteFile(filepath.Join(ts.Getenv("WORK"), "until.out"), out, 0o644))
			return
		}
	}
	ts.Fatalf("%s never came true; the last output was:\n%s", args[0], out)
}

func lookPath(path, name string) string {
	for _, dir := range filepath.SplitList(path) {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode()&0o111 != 0 {
			return filepath.Join(dir, name)
		}
	}
	return name
}

// noworker: waits until no process that this script started is left, but for
// the programs that testscript itself waits for.
func noWorker(ts *testscript.TestScript, neg bool, args []string) {
	mark := []byte("SCRIPT_MARK=" + ts.Getenv("SCRIPT_MARK"))
	var left []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		left = left[:0]
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, d := range dirs {
			env, _ := os.ReadFile(d + "/environ")
			if !bytes.Contains(env, mark) {
				continue
			}
			cmd, _ := os.ReadFile(d + "/cmdline")
			left = append(left, filepath.Base(d)+" "+string(bytes.ReplaceAll(cmd, []byte{0}, []byte{' '})))
		}
		if len(left) == 0 {
			return
		}
	}
	ts.Fatalf("processes are left:\n%s", strings.Join(left, "\n"))
}

var signals = map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP}

// signal NAME FILE: sends a signal to the pid that FILE holds.
func signal(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: signal NAME FILE")
	}
	sig, ok := signals[args[0]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[0])
	}
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, sig))
}

// tell NAME: sends a signal to the manager itself, below its guard.
func tell(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: tell NAME")
	}
	st, err := client.New(ts.Getenv("WORKERSD_SOCKET")).Status(context.Background())
	ts.Check(err)
	ts.Check(syscall.Kill(st.Manager.PID, signals[args[0]]))
}

// garbage: writes what is no request to the control socket.
func garbage(ts *testscript.TestScript, neg bool, args []string) {
	for range 20 {
		c, err := net.Dial("unix", ts.Getenv("WORKERSD_SOCKET"))
		ts.Check(err)
		c.Write(bytes.Repeat([]byte("\x00\xff no request at all \r\n\r\n"), 500))
		c.Close()
	}
}

// smalldisk DIR: a file system of 200 KiB, for what happens when it is full.
func smallDisk(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=200k"); err != nil {
		ts.Fatalf("a file system cannot be mounted: %v", err)
	}
	ts.Defer(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// same FILE FILE: both are equal; with ! they differ.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same FILE FILE")
	}
	a, b := ts.ReadFile(args[0]), ts.ReadFile(args[1])
	if (a == b) == neg {
		ts.Fatalf("%s", fmt.Sprintf("%s:\n%s\n%s:\n%s", args[0], a, args[1], b))
	}
}
