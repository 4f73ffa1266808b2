package systemd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	sdjournal "github.com/coreos/go-systemd/v22/journal"

	"github.com/workersd/workersd/pkg/internal/event"
)

// A journald that is stopped holds nobody up. When it goes on it gets the first
// records, and one that says how many are missing.
func TestJournalThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := make(chan struct{})
		var sent []string
		j := newJournal(func(message string, _ sdjournal.Priority, f map[string]string) error {
			<-hangs
			sent = append(sent, f["SYSLOG_IDENTIFIER"]+" "+message)
			return nil
		}, nil)
		log := slog.New(j.Handler(slog.LevelInfo))
		log.Info("0")
		synctest.Wait() // it is being sent, and waits no more
		for i := range queueSize + 10 {
			j.Record(slog.LevelInfo, event.Record{Message: fmt.Sprint(i + 1)})
		}
		close(hangs)
		j.Close(t.Context())
		last := "workersd 10 records were dropped, because journald did not take them in time"
		if n := len(sent); n != queueSize+2 || sent[0] != "workersd 0" || sent[n-2] != fmt.Sprint("workersd ", queueSize) || sent[n-1] != last {
			t.Errorf("%d records; the last is %q", n, sent[n-1])
		}
	})
}

// What journald refuses is written as systemd reads it from a service's output.
func TestJournalThatRefuses(t *testing.T) {
	var out strings.Builder
	j := newJournal(func(string, sdjournal.Priority, map[string]string) error { return errors.New("no") }, &out)
	slog.New(j.Handler(slog.LevelInfo)).Warn("text", "k", "v")
	j.Close(context.Background())
	if got, want := out.String(), "<4>text k=v\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
