package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func fatal(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
	os.Exit(1)
}

// parts are the programs that bench is to itself, by their first argument.
var parts = map[string]func(args []string) error{
	"floor": func(args []string) error { // DUTIES DIR N COMMAND..
		all, err := dutiesOf(args[0], args[1])
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(args[2])
		if err == nil {
			floor(n, args[3:], all)
		}
		return err
	},
	"copy": func(args []string) error { // FILE COMMAND..
		copyFloor(args[1:], args[0])
		return nil
	},
	"lines": func(args []string) error { // N
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return writeLines(os.Stdout, n)
	},
	"grow":   func(args []string) error { return growUntilTold(args[0]) },
	"insert": func(args []string) error { return insert(args[0], args[1], os.Stdin, os.Stdout) }, // FILE SECTION
}

func main() {
	if len(os.Args) > 2 {
		if part, ok := parts[os.Args[1]]; ok {
			if err := part(os.Args[2:]); err != nil {
				fatal("%v", err)
			}
			return
		}
	}
	b := &bench{r: results{}}
	flag.IntVar(&b.size, "n", 500, "workers")
	flag.IntVar(&b.starts, "starts", 1000, "workers of the measured start; 0: none")
	flag.IntVar(&b.large, "large", 5000, "workers of the large pool; 0: none")
	flag.IntVar(&b.lines, "lines", 1_000_000, "log lines of one worker; 0: none")
	flag.DurationVar(&b.idle, "idle", 30*time.Second, "how long to watch an idle pool")
	rounds := flag.Int("rounds", 3, "rounds; medians are printed")
	only := flag.String("only", "", "comma separated names of contenders beside the floor")
	guest := flag.Bool("guest", false, "in the VM: workersd as a service of systemd")
	flag.Parse()
	if b.size <= changed || b.large != 0 && b.large <= changed {
		fatal("-n and -large: more than %d, of which a reload changes so many", changed)
	}

	all := contenders
	if *guest {
		all = guestContenders
	}
	var present []contender
	for _, c := range all {
		if *only != "" && c.name != "floor" && !slices.Contains(strings.Split(*only, ","), c.name) {
			continue
		}
		if why := c.missing(); why != "" {
			fmt.Printf("Left out: %s.\n", why)
			continue
		}
		present = append(present, c)
	}
	begin := time.Now()
	for round := range *rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, *rounds)
		for _, c := range present {
			// The others are there to compare with, and some of them are slow.
			if round > 0 && !c.judged {
				continue
			}
			if err := b.round(c, round == 0); err != nil {
				fatal("%v", err)
			}
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s, %s, %d rounds in %v, `%s`:\n\n", begin.Format(time.DateOnly), machine(),
		*rounds, time.Since(begin).Round(time.Second), strings.Join(append([]string{"bench"}, os.Args[1:]...), " "))
	b.report(&out, present, *guest)
	io.Copy(os.Stdout, &out)
}

// machine is what kind of machine this is.
func machine() string {
	var u unix.Utsname
	unix.Uname(&u)
	model := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(b)) {
			if name, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	load, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("%d × %s, Linux %s, load %s, %s", runtime.NumCPU(), model, release, one, runtime.Version())
}
