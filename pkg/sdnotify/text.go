package sdnotify

import (
	"bytes"
	"math"
	"unicode"
	"unicode/utf8"
)

func indexByte(b []byte, c byte) int { return bytes.IndexByte(b, c) }

// ValidID reports whether an execution may be called so: 1 to MaxID bytes of
// printable UTF-8, because an id is shown to people in a terminal.
func ValidID[T ~string | ~[]byte](id T) bool {
	if len(id) == 0 || len(id) > MaxID {
		return false
	}
	var b [MaxID]byte
	return printable(b[:copy(b[:], id)])
}

func printable(b []byte) bool {
	for len(b) > 0 {
		if c := b[0]; c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f {
				return false
			}
			b = b[1:]
			continue
		}
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			return false
		}
		b = b[n:]
	}
	return true
}

// validKey reports whether key could be a variable of the protocol; without
// this any binary noise with a '=' in it would be an unknown key.
func validKey(key []byte) bool {
	for _, c := range key {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// parseUint reads decimal digits and nothing else.
func parseUint(b []byte) (uint64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		d := uint64(c - '0')
		if c < '0' || c > '9' || n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}
