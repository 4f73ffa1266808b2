package daemon

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseArgs(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("WORKERSD_SOCKET", "/env/s")
	t.Setenv("STATE_DIRECTORY", "/var/lib/workersd:/var/lib/other")
	for _, c := range []struct {
		args []string
		want Options
	}{
		{[]string{"--config", "list.toml"}, Options{Config: filepath.Join(wd, "list.toml"), Socket: "/env/s", StateDir: "/var/lib/workersd"}},
		{[]string{"-config=/l", "--socket", "/s", "--state-dir=/d", "--cgroup-root=/c", "--no-scope", "--no-cgroup", "--verbose"},
			Options{Config: "/l", Socket: "/s", StateDir: "/d", CgroupRoot: "/c", NoScope: true, NoCgroup: true, Verbose: true}},
	} {
		var out, errs bytes.Buffer
		got, err := parseArgs(c.args, &out, &errs)
		if err != nil || out.Len()+errs.Len() > 0 {
			t.Errorf("%q: %v\n%s%s", c.args, err, &out, &errs)
		}
		if got.Config != c.want.Config || got.Socket != c.want.Socket || got.StateDir != c.want.StateDir || got.CgroupRoot != c.want.CgroupRoot ||
			got.NoScope != c.want.NoScope || got.NoCgroup != c.want.NoCgroup || got.Verbose != c.want.Verbose {
			t.Errorf("%q gives %+v, want %+v", c.args, got, c.want)
		}
	}
}

// What was asked for goes to stdout, what is wrong to stderr with what to do.
func TestParseArgsEnds(t *testing.T) {
	for _, c := range []struct {
		args     []string
		err      error
		out, bad string // the beginning of each
	}{
		{[]string{"--help"}, flag.ErrHelp, "usage: workersd --config FILE", ""},
		{[]string{"-h"}, flag.ErrHelp, "usage: workersd --config FILE", ""},
		{[]string{"--version"}, flag.ErrHelp, "workersd " + Version + "\n", ""},
		{nil, errUsage, "", "workersd: no worker list: say --config FILE\n"},
		{[]string{"list.toml"}, errUsage, "", `workersd: unexpected argument "list.toml" (the worker list goes behind --config)`},
		{[]string{"--frobnicate"}, errUsage, "", "workersd: flag provided but not defined: -frobnicate\nusage: workersd"},
		{[]string{"--config"}, errUsage, "", "workersd: flag needs an argument: -config\nusage: workersd"},
	} {
		var out, bad bytes.Buffer
		_, err := parseArgs(c.args, &out, &bad)
		if !errors.Is(err, c.err) || !strings.HasPrefix(out.String(), c.out) || !strings.HasPrefix(bad.String(), c.bad) ||
			(c.out == "") != (out.Len() == 0) || (c.bad == "") != (bad.Len() == 0) {
			t.Errorf("%q: %v\nstdout: %s\nstderr: %s\nwant %v, %q, %q", c.args, err, &out, &bad, c.err, c.out, c.bad)
		}
	}
}

// The usage text names the socket that would be taken.
func TestUsageNamesTheSocket(t *testing.T) {
	t.Setenv("WORKERSD_SOCKET", "/env/s")
	for _, args := range [][]string{{"--help"}, {"--socket", "/other", "--help"}, {"--nonsense"}} {
		var out bytes.Buffer
		parseArgs(args, &out, &out)
		if want := "control socket (default /env/s; also: WORKERSD_SOCKET)\n"; !strings.Contains(out.String(), want) {
			t.Errorf("%q: want %q in\n%s", args, want, &out)
		}
	}
}

// Each option stands in the usage text.
func TestUsageNamesEveryOption(t *testing.T) {
	for _, o := range []string{"config FILE", "socket PATH", "state-dir DIR", "cgroup-root PATH", "no-scope", "no-cgroup", "verbose", "version"} {
		if !strings.Contains(usage, "\n  --"+o) {
			t.Errorf("usage lacks --%s", o)
		}
	}
}
