package examples_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/workersd/workersd/pkg/internal/programtest"
	"github.com/workersd/workersd/pkg/internal/redistest"
)

// The origin's Redis examples, as a person tries them: lpush in one terminal,
// the manager in another.
func TestRedisExamples(t *testing.T) {
	for _, c := range []struct{ list, takes, not string }{
		{"redis-simple.toml", "brpop", "lrem"},
		{"redis-reliable.toml", "blmove", "brpop"},
	} {
		t.Run(c.list, func(t *testing.T) {
			s := redistest.Start(t)
			m := programtest.Start(t, "deploy/examples/"+c.list, "REDIS_URL="+s.URL)
			for i, message := range []string{"hello", "a second one"} {
				lpush(t, s, message)
				m.AwaitOutput("redis-worker | " + message)
				if i == 0 && strings.Contains(m.Output(), "cancelled") {
					t.Error("it left after one message; two means two")
				}
			}
			m.Await("a second process runs", func() bool { return strings.Count(m.Output(), " created") == 2 })
			// What a worker writes comes by another way than what is logged of it.
			wantInOrder(t, m.Output(), `redis-worker \| hello`, `redis-worker \| a second one`)
			wantInOrder(t, m.Output(),
				`Workers Daemon Starting`,
				`Daemon process \d+`,
				`Check point 5s`,
				`redis-worker \d+ created`,
				`redis-worker \d+ cancelled by reaching max requests count \[2\]`,
				`redis-worker \d+ is not existed any more`,
				`redis-worker \d+ created`)
			lpush(t, s, "a third one")
			m.AwaitOutput("redis-worker | a third one")
			m.Stop()

			used := commands(t, s)
			if used[c.takes] == 0 || used[c.not] != 0 {
				t.Errorf("Redis was asked %v, want %s and no %s", used, c.takes, c.not)
			}
			if n := used["lrem"]; c.takes == "blmove" && n != 3 {
				t.Errorf("%d LREM, want one for each of three messages", n)
			}
			for _, list := range []string{"redis_queue", "redis_queue:inflight:redis-worker", "redis_queue:dead"} {
				if left := s.List(list); len(left) > 0 {
					t.Errorf("%s still holds %q", list, left)
				}
			}
		})
	}
}

// What a killed process held is done first by the next one.
func TestRedisReliableDoesFirstWhatWasInFlight(t *testing.T) {
	s := redistest.Start(t)
	s.Push("redis_queue:inflight:redis-worker", "left over")
	lpush(t, s, "new")
	m := programtest.Start(t, "deploy/examples/redis-reliable.toml", "REDIS_URL="+s.URL)
	m.AwaitOutput("redis-worker | new")
	wantInOrder(t, m.Output(), `redis-worker \| left over`, `redis-worker \| new`)
	m.Stop()
	if left := s.List("redis_queue:inflight:redis-worker"); len(left) > 0 {
		t.Errorf("still in flight: %q", left)
	}
}

func lpush(t *testing.T, s *redistest.Server, message string) {
	t.Helper()
	out, err := exec.Command("redis-cli", "-s", strings.TrimPrefix(s.URL, "unix://"), "lpush", "redis_queue", message).CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli lpush: %v: %s (Debian: apt-get install redis-tools)", err, out)
	}
}

// commands is how often Redis was asked to do what.
func commands(t *testing.T, s *redistest.Server) map[string]int {
	t.Helper()
	info, err := s.Client.InfoMap(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]int{}
	for name, stat := range info["Commandstats"] {
		calls := regexp.MustCompile(`calls=(\d+)`).FindStringSubmatch(stat)
		if calls == nil {
			t.Fatalf("%s: %s", name, stat)
		}
		used[strings.TrimPrefix(name, "cmdstat_")] = atoi(t, calls[1])
	}
	return used
}
