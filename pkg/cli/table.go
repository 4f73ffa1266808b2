package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// table is columns two blanks apart; the second may have a colour.
type table struct {
	head  []string
	right string // heads of the columns that are aligned to the right
	rows  [][]string
	color []string // of each row; "" for none
}

func (t *table) add(color string, cells ...string) {
	for i := range cells {
		cells[i] = clean(cells[i])
	}
	t.rows = append(t.rows, cells)
	t.color = append(t.color, color)
}

func (t *table) write(w io.Writer, color bool) {
	width := make([]int, len(t.head))
	for _, r := range append([][]string{t.head}, t.rows...) {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	right := strings.Fields(t.right)
	line := func(cells []string, paint string) {
		var b strings.Builder
		for i, c := range cells {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i == 1 && paint != "" {
				c = "\x1b[" + paint + "m" + c + "\x1b[0m"
			}
			if i > 0 {
				b.WriteString("  ")
			}
			if slices.Contains(right, t.head[i]) {
				b.WriteString(pad + c)
			} else {
				b.WriteString(c + pad)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	line(t.head, "")
	for i, r := range t.rows {
		paint := ""
		if color {
			paint = t.color[i]
		}
		line(r, paint)
	}
}

// clean takes out what a terminal would obey: texts come from workers, too.
func clean(s string) string {
	if strings.IndexFunc(s, unicode.IsControl) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '·'
		}
		return r
	}, s)
}

// age is a duration as short as it is useful.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}
