package daemon

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

// Nobody waits for a reader that does not read. What it then reads are the first
// lines, in order and whole, and how many are missing.
func TestLogWaitsForNoReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const lines = 3 * logQueue
	h := newQueued(slog.NewTextHandler(w, nil))
	log := slog.New(h).With("a", 1)
	for i := range lines { // a pipe takes some hundreds
		log.Info(fmt.Sprint("line ", i, " ", strings.Repeat("x", 100)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	h.q.Close(ctx) // nor does the end
	go func() {
		h.q.Close(context.Background())
		w.Close()
	}()
	read, dropped := 0, 0
	for s := bufio.NewScanner(r); s.Scan(); {
		text := s.Text()
		switch {
		case strings.Contains(text, fmt.Sprintf(`msg="line %d x`, read)) && strings.HasSuffix(text, " a=1"):
			read++
		case strings.Contains(text, " lines of the log were dropped"):
			if _, err := fmt.Sscanf(text[strings.Index(text, `msg="`):], `msg="%d`, &dropped); err != nil {
				t.Error(err)
			}
		default:
			t.Fatalf("after %d lines: %q", read, text)
		}
	}
	if read < logQueue || dropped == 0 || read+dropped != lines {
		t.Errorf("%d lines were read, %d dropped, of %d", read, dropped, lines)
	}
}

func TestLogIsWrittenAtTheEnd(t *testing.T) {
	var out strings.Builder
	h := newQueued(slog.NewTextHandler(&out, nil))
	log := slog.New(h).WithGroup("g")
	for range 100 {
		log.Info("m", "k", "v")
	}
	h.q.Close(context.Background())
	if n := strings.Count(out.String(), "msg=m g.k=v\n"); n != 100 {
		t.Errorf("%d of 100 lines", n)
	}
	log.Info("too late") // and no panic
}
