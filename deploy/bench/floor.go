package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// floor keeps n copies of argv alive: fork, exec, one wait4(-1) loop, restart at
// once. It does nothing else a supervisor does, save the duties it is given.
func floor(n int, argv []string, all duties) {
	defer all.close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	env := os.Environ()
	alive := make(map[int]bool, n)
	spawn := func() {
		attr := &syscall.ProcAttr{Env: env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}}
		started := all.begin(attr)
		pid, err := syscall.ForkExec(argv[0], argv, attr)
		if err != nil {
			fatal("floor: %v", err)
		}
		alive[pid] = true
		started(pid)
	}
	exits := make(chan os.Signal, 1)
	signal.Notify(exits, syscall.SIGCHLD)
	for range n {
		spawn()
	}
	stopping := false
	for !stopping || len(alive) > 0 {
		select {
		case <-stop:
			stopping = true
			for pid := range alive {
				unix.Kill(pid, unix.SIGTERM)
			}
		case <-exits:
		}
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
			delete(alive, pid)
			all.ended(pid)
			if !stopping {
				spawn()
			}
		}
	}
}

// copyFloor is the least a log copier can do: large reads, large writes.
func copyFloor(argv []string, file string) {
	r, w, err := os.Pipe()
	if err != nil {
		fatal("%v", err)
	}
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, w.Fd(), 2}})
	if err != nil {
		fatal("%v", err)
	}
	w.Close()
	out, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		fatal("%v", err)
	}
	buf := make([]byte, 64<<10)
	fd := int(r.Fd())
	for {
		n, err := unix.Read(fd, buf)
		if err != nil || n == 0 {
			break
		}
		out.Write(buf[:n])
	}
	unix.Wait4(pid, nil, 0, nil)
	// Stays, so that its CPU can be read.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
}
