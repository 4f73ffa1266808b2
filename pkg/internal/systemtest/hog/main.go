// Command hog is a worker that misbehaves in the ways the system tests need.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/spec"
)

var (
	step       = flag.Int("step", 10, "MiB to take at a time")
	every      = flag.Duration("every", 50*time.Millisecond, "pause between two steps")
	upTo       = flag.Int("to", 400, "MiB to take in all")
	then       = flag.Int("then", 20, "MiB that the work in hand still needs after SIGTERM")
	ignoreTerm = flag.Bool("ignore-term", false, "does not leave on SIGTERM")
	report     = flag.String("report", "", "file to append to")
	as         = flag.String("as", "eater", "name of the child of parent")
	dir        = flag.String("dir", os.TempDir(), "where files are made")
	count      = flag.Int("n", 3, "how many")
	ready      = flag.Bool("ready", false, "says READY=1 first")
)

func main() {
	flag.Parse()
	args := flag.Args()
	if len(args) == 0 {
		args = []string{"idle"}
	}
	caught, term := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGTERM)
	go func() {
		for s := range caught {
			say("sigterm current=%d high=%d", current(), events("high"))
			term <- s
		}
	}()
	cgroup()
	if *ready {
		notify("READY=1")
	}
	say("start pid=%d alive=%d", os.Getpid(), alive())
	switch args[0] {
	case "idle":
	case "grow":
		grow(term, anonymous)
	case "shm":
		grow(term, sharedFile())
	case "cache":
		cache()
	case "nest":
		nest(args[1:])
	case "parent":
		parent(args[1:])
	case "daemonize":
		daemonize()
	case "lines":
		lines()
	case "exit":
		os.Exit(*count)
	default:
		fmt.Fprintf(os.Stderr, "hog: unknown command %q\n", args[0])
		os.Exit(2)
	}
	for *ignoreTerm {
		<-term
	}
	<-term
	say("end")
}

// say appends a line to the report, whole.
func say(format string, args ...any) {
	if *report == "" {
		return
	}
	f, err := os.OpenFile(*report, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	check(err)
	defer f.Close()
	_, err = fmt.Fprintf(f, format+" gen=%s\n", append(args, cmp.Or(os.Getenv("WORKERSD_GENERATION"), "0"))...)
	check(err)
}

// alive is how many generations of this worker have processes now, by the
// leaves beside ours.
func alive() (n int) {
	own := cgroup()
	i := strings.LastIndexByte(own, ':')
	if i < 0 {
		return 0
	}
	all, err := filepath.Glob(filepath.Dir(own) + "/*")
	check(err)
	for _, dir := range all {
		if !strings.HasPrefix(dir, own[:i+1]) {
			continue
		}
		b, err := os.ReadFile(dir + "/cgroup.events")
		if err == nil && strings.Contains(string(b), "populated 1") {
			n++
		}
	}
	return n
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "hog:", err)
		os.Exit(1)
	}
}

// anonymous takes n bytes and touches each page.
func anonymous(n int) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	check(err)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
}

// sharedFile takes its bytes in a file in shared memory.
func sharedFile() func(int) {
	f, err := os.CreateTemp("/dev/shm", "hog")
	check(err)
	check(os.Remove(f.Name()))
	block := make([]byte, spec.MiB)
	return func(n int) {
		for ; n > 0; n -= len(block) {
			_, err := f.Write(block)
			check(err)
		}
	}
}

// grow takes memory step by step; asked to leave, it finishes the work in hand,
// which takes some more.
func grow(term chan os.Signal, take func(int)) {
	for have := 0; have < *upTo; have += *step {
		select {
		case <-term:
			if *ignoreTerm {
				break
			}
			for i := 0; i < *then; i += 2 {
				take(2 * int(spec.MiB))
			}
			say("finished current=%d high=%d", current(), events("high"))
			os.Exit(0)
		case <-time.After(*every):
		}
		take(*step * int(spec.MiB))
	}
	say("full current=%d high=%d", current(), events("high"))
}

// cache reads a file that nobody has read before once, and keeps nothing of it.
// It says how much of it was seen in memory, and leaves; after -n such lives it
// stays.
func cache() {
	b, _ := os.ReadFile(*report)
	if strings.Count(string(b), "\nread ") >= *count {
		return
	}
	name := filepath.Join(*dir, fmt.Sprintf("cache-%d", os.Getpid()))
	f, err := os.Create(name)
	check(err)
	defer os.Remove(name)
	check(f.Truncate(int64(*upTo) << 20))
	if os.Getenv("NOTIFY_SOCKET") != "" {
		notify("X_WORKERSD_BEGIN=read")
	}
	buf := make([]byte, 64<<10)
	var read, seen int64
	for {
		n, err := f.Read(buf)
		if err == io.EOF {
			break
		}
		check(err)
		read += int64(n)
		if read%(2<<20) == 0 {
			seen = max(seen, stat("file"))
		}
	}
	say("read bytes=%d file=%d high=%d", read, seen, events("high"))
	if os.Getenv("NOTIFY_SOCKET") != "" {
		notify("X_WORKERSD_END=read")
	}
	check(os.Remove(name))
	os.Exit(0)
}

// nest makes a cgroup of its own below the leaf, with controllers, and lets a
// child there do what follows.
func nest(args []string) {
	inner := cgroup() + "/inner"
	check(os.Mkdir(inner, 0o755))
	check(os.Mkdir(cgroup()+"/own", 0o755))
	check(os.WriteFile(cgroup()+"/own/cgroup.procs", []byte("0"), 0))
	check(os.WriteFile(cgroup()+"/cgroup.subtree_control", []byte("+memory +pids"), 0))
	fd, err := unix.Open(inner, unix.O_PATH|unix.O_DIRECTORY, 0)
	check(err)
	self, err := os.Executable()
	check(err)
	cmd := exec.Command(self, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	cmd.Stderr = os.Stderr
	check(cmd.Start())
	say("nested pid=%d", cmd.Process.Pid)
	go cmd.Wait()
}

// parent stays small and lets a child of another name do what follows.
func parent(args []string) {
	self, err := os.Executable()
	check(err)
	name := filepath.Join(*dir, *as)
	if err := os.Symlink(self, name); err != nil && !os.IsExist(err) {
		check(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	check(cmd.Start())
	go cmd.Wait()
}

// daemonize leaves processes behind that have left the session and the parent.
func daemonize() {
	self, err := os.Executable()
	check(err)
	for range *count {
		check(exec.Command("/bin/sh", "-c", `setsid "$0" -ignore-term idle >/dev/null 2>&1 </dev/null &`, self).Run())
	}
	say("daemonized n=%d", *count)
}

func lines() {
	for i := range *count {
		fmt.Printf("line %d\n", i)
	}
	say("written n=%d", *count)
}

// cgroup is the one we were born into: a worker may make others below it.
var cgroup = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/self/cgroup")
	check(err)
	_, path, _ := strings.Cut(strings.TrimSpace(string(b)), "0::")
	return "/sys/fs/cgroup" + path
})

func cgroupFile(name string) string {
	b, err := os.ReadFile(cgroup() + "/" + name)
	check(err)
	return string(b)
}

func current() (n int64) {
	fmt.Sscan(cgroupFile("memory.current"), &n)
	return n
}

func events(key string) int64 { return flat("memory.events.local", key) }
func stat(key string) int64   { return flat("memory.stat", key) }

func flat(file, key string) (n int64) {
	for line := range strings.Lines(cgroupFile(file)) {
		if v, ok := strings.CutPrefix(line, key+" "); ok {
			fmt.Sscan(v, &n)
		}
	}
	return n
}

func notify(state string) {
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	check(err)
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	check(err)
}
