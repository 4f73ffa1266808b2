package manager_test

import (
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
)

func init() {
	scenarios["Example"] = Example
	scenarios["Example_arguments"] = Example_arguments
	scenarios["ExampleWorker_spec"] = ExampleWorker_spec
}

// The examples never return, so they are run as the programs that they are.
func TestExamples(t *testing.T) {
	p := start(t, "Example")
	p.says(&p.err, `MyWork-1 \d+ created`)
	p.says(&p.out, `^MyWork-1 \| .*running$`)
	p.signal(syscall.SIGINT)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	p = start(t, "Example_arguments")
	p.says(&p.err, `Mail queues Starting$`)
	for _, name := range []string{"Listen@10.0.0.1,mail", "Listen@10.0.0.1,report", "Listen@10.0.0.2,mail", "Listen@10.0.0.2,report"} {
		name = regexp.QuoteMeta(name)
		p.says(&p.err, name+` \d+ cancelled by reaching max requests count \[2\]`)
		p.says(&p.out, `(?s)^`+name+` \| message of .* open: true$.*^`+name+` \| closed$`)
	}

	p = start(t, "ExampleWorker_spec")
	p.until("quiet-1.log", func() bool {
		text, _ := os.ReadFile(filepath.Join(p.dir, "quiet-1.log"))
		return regexp.MustCompile(`(?m)running$`).Match(text)
	})
	p.never(&p.out, `running`)
}
