package examples_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/programtest"
	"github.com/workersd/workersd/pkg/sdnotify"
)

func page(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(dir + "PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// section is what stands under a heading.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page(t), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("PROTOCOL.md has no section %q", heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// rows are the names in the first column of a section's table, and the words in
// its second.
func rows(t *testing.T, heading string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(section(t, heading), -1) {
		all[m[1]] = nil
		for _, w := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(m[2], -1) {
			all[m[1]] = append(all[m[1]], w[1])
		}
	}
	return all
}

// The page's words and the words that are understood are the same.
func TestPageHasTheWordsOfTheProtocol(t *testing.T) {
	onPage := rows(t, "The words")
	known := map[string]bool{}
	for k := sdnotify.Key(1); ; k++ {
		text, ok := written(k)
		if !ok {
			break
		}
		for line := range strings.SplitSeq(text, "\n") {
			word, _, _ := strings.Cut(line, "=")
			known[word] = true
			if _, ok := onPage[word]; !ok {
				t.Errorf("pkg/sdnotify understands %s, and the page does not have it", word)
			}
		}
	}
	for word, values := range onPage {
		if !known[word] {
			t.Errorf("the page has %s, which pkg/sdnotify does not know", word)
		}
		for _, v := range values {
			text := word + "=" + v
			if word == "X_WORKERSD_RESULT" {
				text += "\nX_WORKERSD_END=1"
			}
			var m sdnotify.Message
			if err := m.Parse([]byte(text)); err != nil || len(m.Fields) != 1 {
				t.Errorf("%q from the page is not understood: %v", text, err)
			}
		}
	}
	for _, r := range []sdnotify.Result{sdnotify.OK, sdnotify.Fail, sdnotify.Skip} {
		if !slices.Contains(onPage["X_WORKERSD_RESULT"], r.String()) {
			t.Errorf("the page lacks the result %s", r)
		}
	}
}

// written is a message with one field of the key; not ok: there is no such key.
func written(k sdnotify.Key) (text string, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	m := sdnotify.Message{Fields: []sdnotify.Field{{Key: k}}}
	return m.String(), true
}

// The page's variables are the ones that a worker finds.
func TestPageHasTheVariablesOfAWorker(t *testing.T) {
	list := programtest.Write(t, `
[worker.env]
command = ["/bin/sh", "-c", "env | sed 's/=.*//' | sort -u | sed 's/^/NAME /'; echo END; exec sleep 1000"]
params = [{ queue = "mail" }]
max_requests = 2
timeout = "1m"
watchdog = "10m"
`)
	m := programtest.Start(t, list)
	m.AwaitOutput("| END")
	before := map[string]bool{"PWD": true, "SHLVL": true, "_": true, "OLDPWD": true} // the shell's own
	for _, v := range m.Environ() {
		name, _, _ := strings.Cut(v, "=")
		before[name] = true
	}
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`\| NAME (\w+)`).FindAllStringSubmatch(m.Output(), -1) {
		if !before[m[1]] {
			found[strings.Replace(m[1], "_QUEUE", "_…", 1)] = true
		}
	}
	m.Stop()
	onPage := map[string]bool{}
	for name := range rows(t, "The environment") {
		onPage[name] = true
	}
	if !maps.Equal(found, onPage) {
		t.Errorf("a worker finds %v, the page has %v", slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(onPage)))
	}
}

// The examples on the page are the files beside it.
func TestPageShowsTheExamplesAsTheyAre(t *testing.T) {
	blocks := regexp.MustCompile("(?s)\\[(listen[^\\]]*)\\]\\([^)]*\\):\n\n```\\w+\n(.*?)```\n").FindAllStringSubmatch(page(t), -1)
	if len(blocks) != 4 {
		t.Fatalf("the page shows %d examples, want 4", len(blocks))
	}
	for _, b := range blocks {
		file, err := os.ReadFile(dir + b[1])
		if err != nil {
			t.Error(err)
		} else if string(file) != b[2] {
			t.Errorf("%s on the page is not what the file has", b[1])
		}
	}
}

// workersctl notify says a message for a worker that cannot.
func TestWorkersctlNotify(t *testing.T) {
	list := programtest.Write(t, `
[worker.shell]
command = ["/bin/sh", "-c", '''
workersctl notify READY=1 "STATUS=by workersctl"
workersctl notify X_WORKERSD_BEGIN=7
workersctl notify X_WORKERSD_END=7 X_WORKERSD_RESULT=fail
workersctl notify X_WORKERSD_BEGIN=8 STOPPING=1
exec sleep 1000''']
ready = "notify"
`)
	m := programtest.Start(t, list)
	var w client.Worker
	m.Await("all of it was heard", func() bool {
		w = m.Worker("shell")
		return len(w.Running) == 1 && w.Running[0].ID == "8" && w.Leaving
	})
	if w.State != "up" || w.Executions != 1 || w.Failed != 1 || w.StatusText != "by workersctl" {
		t.Errorf("the worker is %+v", w)
	}
	m.Stop()
}
