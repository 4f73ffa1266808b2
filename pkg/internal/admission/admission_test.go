package admission

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

func TestStarts(t *testing.T) {
	for _, c := range []struct{ limit, starting, ordered, want int }{
		{0, 0, 0, AtOnce}, {0, 1000, 0, AtOnce}, {-1, 5, 5, AtOnce - 5}, {0, AtOnce, AtOnce, 0},
		{4, 0, 0, 4}, {4, 3, 0, 1}, {4, 4, 4, 0}, {4, 9, 0, 0}, // max_starting was lowered
		{2 * AtOnce, AtOnce, AtOnce - 1, 1}, {AtOnce, AtOnce - 2, AtOnce - 3, 2},
	} {
		if got := Starts(c.starting, c.ordered, spec.Manager{MaxStarting: c.limit}); got != c.want {
			t.Errorf("max_starting %d, %d starting, %d ordered: %d more, want %d", c.limit, c.starting, c.ordered, got, c.want)
		}
	}
}

func TestRecycles(t *testing.T) {
	share := func(n int) spec.Share { return spec.Share{N: n} }
	percent := func(n int) spec.Share { return spec.Share{N: n, Percent: true} }
	three := []Asked{{"a", event.Reloaded, 1}, {"b", event.Reloaded, 2}, {"c", event.Reloaded, 3}}
	for _, c := range []struct {
		name            string
		limit           spec.Share
		size, recycling int
		asked           []Asked
		want            []string
	}{
		{"nobody asks", share(2), 10, 0, nil, nil},
		{"no limit", share(0), 3, 1, three, []string{"a", "b", "c"}},
		{"no limit, as a percentage", percent(0), 3, 1, three, []string{"a", "b", "c"}},
		{"room for all", share(5), 10, 0, three, []string{"a", "b", "c"}},
		{"room for two", share(2), 10, 0, three, []string{"a", "b"}},
		{"one is under way", share(2), 10, 1, three, []string{"a"}},
		{"full", share(2), 10, 2, three, nil},
		{"over full, the limit was lowered", share(2), 10, 5, three, nil},
		{"a quarter of 8", percent(25), 8, 0, three, []string{"a", "b"}},
		{"a quarter of 7", percent(25), 7, 0, three, []string{"a"}},
		{"a quarter of 3: one gets through", percent(25), 3, 0, three, []string{"a"}},
		{"a quarter of 3, one is under way", percent(25), 3, 1, three, nil},
		{"all of them", percent(100), 3, 0, three, []string{"a", "b", "c"}},
		{"a percentage of nobody", percent(50), 0, 0, three, []string{"a"}},
		{"the longest waiting first", share(1), 9, 0, []Asked{{"x", event.MaxLifetime, 9}, {"y", event.MaxLifetime, 3}}, []string{"y"}},
		{"numbers of any size", share(1), 9, 0, []Asked{{"x", event.MaxLifetime, math.MaxUint64}, {"y", event.MaxLifetime, 1}}, []string{"y"}},
		{"the most urgent first", share(9), 9, 0, []Asked{
			{"reload", event.Reloaded, 1}, {"life", event.MaxLifetime, 2}, {"requests", event.MaxRequests, 3}, {"memory", event.SoftMemory, 4}, {"memory2", event.SoftMemory, 5},
		}, []string{"memory", "memory2", "requests", "life", "reload"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.asked)
			if got := Recycles(c.limit, c.size, c.recycling, c.asked); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			if !slices.Equal(before, c.asked) {
				t.Errorf("what was handed in is changed to %v", c.asked)
			}
		})
	}
}

// TestRecyclesInAnyOrder: who goes does not depend on the order in which they
// are handed in, the limit is kept, and nobody goes before a more urgent one.
func TestRecyclesInAnyOrder(t *testing.T) {
	reasons := []event.Reason{event.SoftMemory, event.MaxRequests, event.MaxLifetime, event.Reloaded}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 0))
		asked := make([]Asked, r.IntN(12))
		for i := range asked {
			asked[i] = Asked{fmt.Sprint(i), reasons[r.IntN(4)], uint64(i)}
		}
		limit := spec.Share{N: r.IntN(12), Percent: r.IntN(2) == 0}
		size, recycling := len(asked)+r.IntN(20), r.IntN(4)
		first := Recycles(limit, size, recycling, asked)
		r.Shuffle(len(asked), func(i, j int) { asked[i], asked[j] = asked[j], asked[i] })
		if second := Recycles(limit, size, recycling, asked); !slices.Equal(first, second) {
			t.Fatalf("seed %d: %v, in another order %v", seed, first, second)
		}
		most := limit.N
		if limit.Percent {
			most = max(1, size*limit.N/100)
		}
		if limit.N > 0 && len(first) > 0 && len(first)+recycling > most {
			t.Fatalf("seed %d: %d beside %d, the limit is %d", seed, len(first), recycling, most)
		}
		for _, a := range asked {
			if slices.Contains(first, a.Name) {
				continue
			}
			for _, b := range asked {
				if slices.Contains(first, b.Name) && (b.Reason.Urgency() < a.Reason.Urgency() || b.Reason == a.Reason && b.Seq > a.Seq) {
					t.Fatalf("seed %d: %+v goes before %+v", seed, b, a)
				}
			}
		}
	}
}
