// Package admission decides who may start or recycle now.
package admission

import (
	"cmp"
	"slices"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// AtOnce bounds the starts that the host is asked for and has not made yet. It
// makes a few at a time: what waits for its turn there holds descriptors, and
// its start_timeout runs.
const AtOnce = 128

// Starts is how many more processes may be started while starting of them are
// between their start and being up, and the host has yet to make ordered of
// those.
func Starts(starting, ordered int, m spec.Manager) int {
	room := max(0, AtOnce-ordered)
	if m.MaxStarting > 0 {
		room = min(room, max(0, m.MaxStarting-starting))
	}
	return room
}

// Asked is a worker that asks to be recycled.
type Asked struct {
	Name   string
	Reason event.Reason
	Seq    uint64 // in the order of asking
}

// Recycles picks who of an entry may be recycled now, the most urgent first,
// the longest waiting among equals. Size is the number of the entry's workers,
// recycling how many of them are being replaced already.
func Recycles(limit spec.Share, size, recycling int, asked []Asked) []string {
	room := len(asked)
	if limit.N > 0 {
		n := limit.N
		if limit.Percent {
			n = max(1, size*limit.N/100) // a small entry must get through, too
		}
		room = min(room, max(0, n-recycling))
	}
	if room == 0 {
		return nil
	}
	order := slices.Clone(asked)
	slices.SortFunc(order, func(a, b Asked) int {
		return cmp.Or(cmp.Compare(b.Reason.Urgency(), a.Reason.Urgency()), cmp.Compare(a.Seq, b.Seq))
	})
	names := make([]string, room)
	for i := range names {
		names[i] = order[i].Name
	}
	return names
}
