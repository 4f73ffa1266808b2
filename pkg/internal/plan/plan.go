// Package plan compares two worker lists and says what a reload would do.
package plan

import (
	"fmt"
	"strings"

	"github.com/workersd/workersd/pkg/spec"
)

// Change is a worker that stays and whose entry differs, by keys. Values are
// not told: those of environment are secret.
type Change struct {
	Name    string   `json:"name"`
	Live    []string `json:"live,omitempty"`
	Restart []string `json:"restart,omitempty"`
}

// Plan is what a reload does, by names of workers in the order of the lists.
type Plan struct {
	Added     []string `json:"added,omitempty"`
	Removed   []string `json:"removed,omitempty"`
	Changed   []Change `json:"changed,omitempty"`
	Unchanged []string `json:"unchanged,omitempty"`
	Manager   []string `json:"manager,omitempty"` // keys of [manager]
}

// Make compares two accepted lists. It changes neither, and its time grows
// with the number of workers.
func Make(old, new spec.List) Plan {
	before := make(map[string]*spec.Worker, len(old.Workers))
	for i := range old.Workers {
		before[old.Workers[i].Name] = &old.Workers[i]
	}
	p := Between(names(old), names(new), func(i int) (live, restart []string) {
		w := &new.Workers[i]
		return spec.Changes(before[w.Name], w)
	})
	p.Manager = spec.ManagerChanges(&old.Manager, &new.Manager)
	return p
}

func names(l spec.List) []string {
	out := make([]string, len(l.Workers))
	for i := range l.Workers {
		out[i] = l.Workers[i].Name
	}
	return out
}

// Between compares two lists by their names; changes tells the keys in which
// worker i of the new one, which stands in both, differs.
func Between(old, new []string, changes func(i int) (live, restart []string)) Plan {
	var p Plan
	stays := make(map[string]bool, len(old))
	for _, name := range old {
		stays[name] = false
	}
	for i, name := range new {
		if _, ok := stays[name]; !ok {
			p.Added = append(p.Added, name)
			continue
		}
		stays[name] = true
		if live, restart := changes(i); len(live)+len(restart) > 0 {
			p.Changed = append(p.Changed, Change{name, live, restart})
		} else {
			p.Unchanged = append(p.Unchanged, name)
		}
	}
	for _, name := range old {
		if !stays[name] {
			p.Removed = append(p.Removed, name)
		}
	}
	return p
}

// Empty reports whether a reload would do nothing.
func (p Plan) Empty() bool {
	return len(p.Added)+len(p.Removed)+len(p.Changed)+len(p.Manager) == 0
}

// String is the plan for a person, one line for each worker that it touches.
func (p Plan) String() string {
	var b strings.Builder
	for _, n := range p.Added {
		fmt.Fprintf(&b, "+ %s\n", n)
	}
	for _, n := range p.Removed {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	for _, c := range p.Changed {
		if len(c.Restart) > 0 {
			fmt.Fprintf(&b, "! %s restarts: %s\n", c.Name, strings.Join(append(append([]string{}, c.Restart...), c.Live...), ", "))
		} else {
			fmt.Fprintf(&b, "~ %s in place: %s\n", c.Name, strings.Join(c.Live, ", "))
		}
	}
	if len(p.Manager) > 0 {
		fmt.Fprintf(&b, "~ [manager] in place: %s\n", strings.Join(p.Manager, ", "))
	}
	b.WriteString(p.Summary())
	return b.String()
}

// Summary is the plan in one line.
func (p Plan) Summary() string {
	restarted := 0
	for _, c := range p.Changed {
		if len(c.Restart) > 0 {
			restarted++
		}
	}
	return fmt.Sprintf("%d added, %d removed, %d restarted, %d changed in place, %d unchanged\n",
		len(p.Added), len(p.Removed), restarted, len(p.Changed)-restarted, len(p.Unchanged))
}
