package redisqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/workersd/workersd/pkg/worker"
)

// DefaultURL is the server where neither Options nor $REDIS_URL name one.
const DefaultURL = "redis://localhost:6379/0"

// Options say what a queue worker does.
type Options struct {
	// URL of the server: redis://, rediss:// or unix://. "" is $REDIS_URL, and
	// DefaultURL without that.
	URL string
	// Queue is the list to take messages from.
	Queue string
	// Handle does the work of one message. Its context is cancelled at the
	// timeout of the execution. An error fails the execution: with Reliable the
	// message is tried again, up to MaxTries times. See Never and Later.
	Handle func(ctx context.Context, message string) error

	// For Reliable: the in-flight list, "QUEUE:inflight:WORKER" if empty; the
	// dead list, "QUEUE:dead" if empty; and how many tries a message has, 5 if
	// zero, as many as it takes if negative.
	InFlight string
	Dead     string
	MaxTries int

	// Wait is how long Redis is asked to wait for a message at once; 1s unless
	// set, which is also the least. A stop is noticed within it.
	Wait time.Duration
	// Log is slog.Default() if nil.
	Log *slog.Logger
}

// DefaultMaxTries is MaxTries where it is not set.
const DefaultMaxTries = 5

type neverError struct{ error }

func (e neverError) Unwrap() error { return e.error }

// Never makes an error of Handle final: the message goes to the dead list now.
// Never(nil) is nil.
func Never(err error) error {
	if err == nil {
		return nil
	}
	return neverError{err}
}

type laterError struct{ error }

func (e laterError) Unwrap() error { return e.error }

// Later makes an error of Handle one that is not the message's fault (a database
// is gone): the message is tried again, and the try is not counted. Later(nil) is
// nil.
//
// With Reliable a message that is to be tried again, because of Later or because
// it failed, is put off: a new one is done first, if there is one, so that it
// holds up no other. While 16 are put off, no new message goes before them, so
// that one worker does not take the whole queue; if all of them say Later for
// ever, that worker does nothing else.
func Later(err error) error {
	if err == nil {
		return nil
	}
	return laterError{err}
}

// withoutURL takes away what an error tells of the URL: it can hold a password,
// and parts of one that is not escaped come up as a port or a host.
func withoutURL(err error) error {
	if bad := (*url.Error)(nil); errors.As(err, &bad) {
		return errors.New("it cannot be parsed (characters such as / : @ in a password are written %2F %3A %40)")
	}
	return err
}

func (o Options) complete() (Options, *redis.Options, error) {
	if o.Queue == "" {
		return o, nil, errors.New("redisqueue: Options.Queue is empty: name the list to take messages from")
	}
	if o.Handle == nil {
		return o, nil, fmt.Errorf("redisqueue: queue %q: Options.Handle is nil: say what to do with a message", o.Queue)
	}
	source := "Options.URL"
	if o.URL == "" {
		o.URL, source = os.Getenv("REDIS_URL"), "REDIS_URL"
	}
	o.URL = cmp.Or(o.URL, DefaultURL)
	r, err := redis.ParseURL(o.URL)
	if err != nil {
		return o, nil, fmt.Errorf("redisqueue: %s is no URL of a Redis server (expected redis://host:6379/0 or unix:///path): %w", source, withoutURL(err))
	}
	o.InFlight = cmp.Or(o.InFlight, o.Queue+":inflight:"+worker.Name())
	o.Dead = cmp.Or(o.Dead, o.Queue+":dead")
	o.MaxTries = cmp.Or(o.MaxTries, DefaultMaxTries)
	o.Wait = max(o.Wait.Truncate(time.Second), time.Second) // Redis is asked in whole seconds
	if o.Log == nil {
		o.Log = slog.Default()
	}

	// A repeated BLMOVE or BRPOP would take a second message and forget the
	// first. Repeating is done here, where it is known what to look at first.
	r.MaxRetries = -1
	r.DialerRetries = 1
	r.DialTimeout = 2 * time.Second
	r.ContextTimeoutEnabled = true
	r.DisableIdentity = true
	r.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o, r, nil
}
