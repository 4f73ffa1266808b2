package history

import "time"

// tally counts what happened in the last hour, to the minute, however much that
// was: the recent records reach as far back as they are few.
type tally [61]struct {
	minute int64 // since 1970
	n      int
}

func (t *tally) add(at time.Time) {
	m := at.Unix() / 60
	b := &t[m%int64(len(t))]
	if b.minute != m {
		b.minute, b.n = m, 0
	}
	b.n++
}

func (t *tally) lastHour(now time.Time) (n int) {
	m := now.Unix() / 60
	for _, b := range t {
		if b.minute > m-60 && b.minute <= m {
			n += b.n
		}
	}
	return n
}
