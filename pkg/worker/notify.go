package worker

import (
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// notifier is what the loop needs of the notify protocol.
type notifier interface {
	send(message string) error
	barrier(timeout time.Duration)
	close()
}

// nobody is the notifier where no manager listens.
type nobody struct{}

func (nobody) send(string) error     { return nil }
func (nobody) barrier(time.Duration) {}
func (nobody) close()                {}

type socket struct{ c net.Conn }

func (s socket) send(m string) error   { _, err := s.c.Write([]byte(m)); return err }
func (s socket) barrier(time.Duration) {}
func (s socket) close()                { s.c.Close() }

func openNotifier() (notifier, error) {
	p := os.Getenv("NOTIFY_SOCKET")
	if p == "" {
		return nobody{}, nil
	}
	c, err := net.Dial("unixgram", p)
	if err != nil {
		return nobody{}, nil
	}
	return socket{c}, nil
}

// monotonicField is the time of the event itself, so that a queue on the way does
// not blur durations.
func monotonicField() string {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return ""
	}
	return "MONOTONIC_USEC=" + strconv.FormatInt(t.Nano()/1000, 10)
}
