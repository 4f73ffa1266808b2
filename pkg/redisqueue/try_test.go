package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/workersd/workersd/pkg/internal/redistest"
	"github.com/workersd/workersd/pkg/redisqueue"
	"github.com/workersd/workersd/pkg/worker"
)

func TestAMessageThatFailsGoesToTheDeadList(t *testing.T) {
	for _, c := range []struct{ max, tries int }{{0, 5}, {1, 1}, {3, 3}} {
		t.Run(fmt.Sprintf("MaxTries %d", c.max), func(t *testing.T) {
			s := redistest.Start(t)
			s.Push("q", "bad", "good")
			var d done
			o, log := options(s, func(_ context.Context, m string) error {
				d.add(m)
				if m == "bad" {
					return errors.New("line 3: no such field")
				}
				return nil
			})
			o.MaxTries = c.max
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				ended <- worker.Run(ctx, redisqueue.Reliable(o), worker.FailurePause(0, 0), worker.Log(slog.New(slog.DiscardHandler)))
			}()
			await(t, "it is given up", func() bool { return len(s.List("q:dead")) > 0 && len(d.list()) > c.tries })
			cancel()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			want(t, "done", d.list(), slices.Concat([]string{"bad", "good"}, slices.Repeat([]string{"bad"}, c.tries-1)))
			want(t, "left in flight", s.List(inFlight), nil)
			dead := deadOnes(t, s)
			reason := fmt.Sprintf("failed at the last of %d tries: line 3: no such field", c.tries)
			if len(dead) != 1 || dead[0].Text() != "bad" || dead[0].Reason != reason || dead[0].Tries != c.tries {
				t.Errorf("dead list %+v, want bad because it %s", dead, reason)
			}
			if !strings.Contains(log.String(), "message given up") {
				t.Errorf("log: %s", log)
			}
			noTries(t, s)
		})
	}
}

func TestATryIsCountedBeforeTheWorkKillsItsProcess(t *testing.T) {
	s := redistest.Start(t)
	s.Push("q", "deadly", "good")
	var d done
	o, _ := options(s, func(_ context.Context, m string) error {
		d.add(m)
		if m == "deadly" {
			panic("out of luck")
		}
		return nil
	})
	o.MaxTries = 2
	for range 2 {
		if err := run(t, redisqueue.Reliable(o), 10); err == nil || err.Error() != "Run panicked: out of luck" {
			t.Fatalf("error %v, want the panic", err)
		}
		want(t, "in flight after the process died", s.List(inFlight), []string{"deadly"})
	}
	mustRun(t, redisqueue.Reliable(o), 1)
	want(t, "done", d.list(), []string{"deadly", "deadly", "good"})
	const reason = "its process ended in the middle of it, at the last of 2 tries"
	if dead := deadOnes(t, s); len(dead) != 1 || dead[0].Text() != "deadly" || dead[0].Reason != reason || dead[0].Tries != 2 {
		t.Errorf("dead list %+v, want deadly because %s", dead, reason)
	}
	noTries(t, s)
}

// A process can end while it gives a message up, and Redis may not let it. The
// message stays, with the tries it had, until one process can.
func TestGivingUpIsNoTry(t *testing.T) {
	s := redistest.Start(t)
	s.Push("q", "bad")
	var d done
	o, _ := options(s, func(_ context.Context, m string) error {
		d.add(m)
		return errors.New("no such field")
	})
	o.MaxTries = 2
	mustRun(t, redisqueue.Reliable(o), 2)
	ctx := t.Context()
	if err := s.Client.Set(ctx, "q:dead", "in the way", 0).Err(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	leave, cancel := context.WithCancel(ctx)
	defer cancel()
	const processes = 3
	for range processes {
		var log *logBuffer
		o, log = options(s, o.Handle)
		o.MaxTries = 2
		go func() {
			ended <- worker.Run(leave, redisqueue.Reliable(o), worker.Log(slog.New(slog.DiscardHandler)))
		}()
		await(t, "the process cannot give it up", func() bool {
			return strings.Contains(log.String(), "q:dead is a string, where the dead list should be")
		})
		want(t, "in flight", s.List(inFlight), []string{"bad"})
	}
	if err := s.Client.Del(ctx, "q:dead").Err(); err != nil {
		t.Fatal(err)
	}
	await(t, "it is given up", func() bool { return len(s.List(inFlight)) == 0 })
	cancel()
	for range processes {
		if err := <-ended; err != nil {
			t.Errorf("leaving: %v", err)
		}
	}
	all := deadOnes(t, s)
	if len(all) == 0 {
		t.Error("the dead list is empty: the message is lost")
	}
	for _, dead := range all {
		if dead.Tries != 2 || dead.Reason != "failed at the last of 2 tries: no such field" {
			t.Errorf("dead list %+v, want what was so before it was tried to give it up", dead)
		}
	}
	want(t, "done", d.list(), []string{"bad", "bad"})
	noTries(t, s)
}

func TestNegativeMaxTriesGivesNothingUp(t *testing.T) {
	s := redistest.Start(t)
	s.Push("q", "stubborn")
	n := 0
	o, _ := options(s, func(context.Context, string) error {
		if n++; n < 30 {
			return errors.New("not yet")
		}
		return nil
	})
	o.MaxTries = -1
	mustRun(t, redisqueue.Reliable(o), 30)
	want(t, "dead", s.List("q:dead"), nil)
	want(t, "left in flight", s.List(inFlight), nil)
	noTries(t, s)
}

func TestNeverGivesUpAtOnce(t *testing.T) {
	s := redistest.Start(t)
	s.Push("q", "\xff\x00")
	o, _ := options(s, func(context.Context, string) error {
		return fmt.Errorf("mail: %w", redisqueue.Never(errors.New("no such address")))
	})
	mustRun(t, redisqueue.Reliable(o), 1)
	dead := deadOnes(t, s)
	if len(dead) != 1 || dead[0].Text() != "\xff\x00" || dead[0].Reason != "mail: no such address" || dead[0].Tries != 1 {
		t.Errorf("dead list %+v", dead)
	}
	want(t, "left in flight", s.List(inFlight), nil)
	noTries(t, s)
}

// A Handle may end with return Never(work()), as it may with other wrappers of
// errors: what did not fail is done.
func TestNoErrorIsNoneToNeverAndLater(t *testing.T) {
	if err := redisqueue.Never(nil); err != nil {
		t.Errorf("Never(nil) is %#v", err)
	}
	if err := redisqueue.Later(nil); err != nil {
		t.Errorf("Later(nil) is %#v", err)
	}
}

// A database that is gone is no fault of the message.
func TestLaterCountsNoTry(t *testing.T) {
	s := redistest.Start(t)
	s.Push("q", "a", "b")
	n := 0
	var d done
	o, _ := options(s, func(_ context.Context, m string) error {
		if n++; n <= 20 {
			return redisqueue.Later(errors.New("no database"))
		}
		d.add(m)
		return nil
	})
	o.MaxTries = 2
	mustRun(t, redisqueue.Reliable(o), 22)
	want(t, "done", d.list(), []string{"a", "b"})
	want(t, "dead", s.List("q:dead"), nil)
	noTries(t, s)
}

// One message that is put off for ever holds up no other.
func TestWhatIsPutOffLetsOthersPass(t *testing.T) {
	for name, c := range map[string]struct {
		max int
		err error
	}{
		"later":                {1, redisqueue.Later(errors.New("rate limit"))},
		"fails without an end": {-1, errors.New("rate limit")},
		"fails":                {5, errors.New("rate limit")},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			s.Push("q", "limited", "a", "b", "c")
			var d done
			o, _ := options(s, func(_ context.Context, m string) error {
				if d.add(m); m == "limited" {
					return c.err
				}
				return nil
			})
			o.MaxTries = c.max
			mustRun(t, redisqueue.Reliable(o), 7)
			want(t, "done", d.list(), []string{"limited", "a", "limited", "b", "limited", "c", "limited"})
			want(t, "left in the queue", s.List("q"), nil)
			want(t, "in flight", s.List(inFlight), []string{"limited"})
		})
	}
}

// What an earlier process left is done before new messages, also behind one that
// is put off.
func TestWhatWasInFlightIsDoneBeforeNewOnes(t *testing.T) {
	s := redistest.Start(t)
	s.Push("q", "new")
	s.Push(inFlight, "limited", "second", "third")
	var d done
	o, _ := options(s, func(_ context.Context, m string) error {
		if d.add(m); m == "limited" {
			return redisqueue.Later(errors.New("rate limit"))
		}
		return nil
	})
	mustRun(t, redisqueue.Reliable(o), 5)
	want(t, "done", d.list(), []string{"limited", "second", "third", "new", "limited"})
}

// A database that is gone does not draw the whole queue into one worker's list.
func TestNotMoreThanSixteenArePutOff(t *testing.T) {
	s := redistest.Start(t)
	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprint("m", i))
	}
	s.Push("q", all...)
	var d done
	over := false
	o, _ := options(s, func(_ context.Context, m string) error {
		if d.add(m); over && m == "m0" {
			return nil
		}
		return redisqueue.Later(errors.New("no database"))
	})
	mustRun(t, redisqueue.Reliable(o), 40)
	want(t, "done", d.list(), slices.Concat(all[:16], all[:16], all[:8]))
	want(t, "left in the queue", s.List("q"), all[16:])
	want(t, "in flight", s.List(inFlight), all[:16])

	over = true
	mustRun(t, redisqueue.Reliable(o), 18)
	want(t, "done when one of them ends", d.list()[40:], append(slices.Clone(all[:17]), "m1"))
}

// Equal messages share their count of tries; none is given up for the other's.
func TestEqualMessagesHaveTheirTriesEach(t *testing.T) {
	s := redistest.Start(t)
	s.Push(inFlight, "same", "same")
	n := 0
	o, _ := options(s, func(context.Context, string) error {
		if n++; n <= 4 {
			return errors.New("no")
		}
		return nil
	})
	o.MaxTries = 3
	mustRun(t, redisqueue.Reliable(o), 6)
	want(t, "dead", s.List("q:dead"), nil)
	want(t, "left in flight", s.List(inFlight), nil)
}

func TestParseDeadRefusesWhatIsNone(t *testing.T) {
	if _, err := redisqueue.ParseDead("hello"); err == nil || !strings.HasPrefix(err.Error(), "not an element of a dead list: ") {
		t.Errorf("error %v", err)
	}
}

// noTries: what is booked about messages goes when they go.
func noTries(t *testing.T, s *redistest.Server) {
	t.Helper()
	fields, err := s.Client.HKeys(t.Context(), inFlight+":tries").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		if !strings.HasPrefix(f, "removed:") {
			t.Errorf("%s:tries still holds %s", inFlight, f)
		}
	}
}
