// Package redistest runs a real Redis server for a test.
package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience bounds waits for the server: only one that never comes fails.
const patience = time.Minute

// quiet keeps what go-redis says of each attempt out of the test's output.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(quiet{}) }

// Server is a redis-server of a test's own on a unix socket. It keeps its data
// in memory; only Stop writes them down, for the Start that follows.
type Server struct {
	// URL is what $REDIS_URL would be.
	URL string
	// Client is the test's own connection.
	Client *redis.Client

	t      testing.TB
	dir    string
	socket string
	cmd    *exec.Cmd
	log    *bytes.Buffer
}

// New is a server that does not run yet. It is gone when the test ends.
func New(t testing.TB) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatalf("redis-server is needed for this test: %v (Debian: apt-get install redis-server)", err)
	}
	dir, err := os.MkdirTemp("", "rq") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir, socket: filepath.Join(dir, "s")}
	s.URL = "unix://" + s.socket
	s.Client = redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket, DialerRetries: 1})
	t.Cleanup(func() {
		s.Client.Close()
		if s.cmd != nil {
			s.cmd.Process.Kill()
			s.cmd.Wait()
		}
		os.RemoveAll(dir)
	})
	return s
}

// Start runs a server for the length of a test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := New(t)
	s.Start()
	return s
}

// Start starts the server and returns when it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.log = &bytes.Buffer{} // read after Wait
	s.cmd = exec.Command("redis-server", "--port", "0", "--unixsocket", s.socket, "--unixsocketperm", "700",
		"--save", "", "--appendonly", "no", "--dir", s.dir, "--daemonize", "no")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ctx := context.Background()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = s.Client.Ping(ctx).Err(); err == nil {
			return
		}
	}
	s.t.Fatalf("redis-server does not answer: %v", err)
}

// Stop ends the server; what it held is there again after Start.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.stop(); err != nil {
		s.t.Fatalf("redis-server: %v\n%s", err, s.log)
	}
}

func (s *Server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// Its answer is the end of the connection.
	s.Client.ShutdownSave(ctx)
	err := s.cmd.Wait()
	s.cmd = nil
	if _, missing := os.Stat(filepath.Join(s.dir, "dump.rdb")); missing != nil {
		return errors.Join(err, fmt.Errorf("it wrote no dump: %w", missing))
	}
	return err
}

// PID is the running server's.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Push puts messages into a list as a producer does.
func (s *Server) Push(list string, messages ...string) {
	s.t.Helper()
	for _, m := range messages {
		if err := s.Client.LPush(context.Background(), list, m).Err(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// List is a list's content, from the right: the oldest first.
func (s *Server) List(list string) []string {
	s.t.Helper()
	got, err := s.Client.LRange(context.Background(), list, 0, -1).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
		got[i], got[j] = got[j], got[i]
	}
	return got
}
