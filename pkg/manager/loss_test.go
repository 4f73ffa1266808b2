package manager

import (
	"context"
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/worker"
)

type (
	base struct{ Host string }
	// Base is embedded where base is, and can be set.
	Base struct{ Host string }

	withBase struct {
		run
		*base
		Queue string
	}
	withExportedBase struct {
		run
		*Base
		Queue string
	}
	shadowed struct {
		run
		Base
		Host string
	}
	// Other has a field of Base's name: JSON writes neither.
	Other  struct{ Host string }
	double struct {
		run
		Base
		Other
	}
	inner struct {
		run
		In []map[string]struct{ T string }
	}
	zeroed struct {
		run
		At odd `json:",omitzero"`
	}
	custom struct{ kept, lost string }
)

// level cannot read what it writes, and word takes it for another one.
type (
	level int
	word  string
	odd   int
)

func (l level) MarshalText() ([]byte, error) { return []byte("high"), nil }
func (w word) MarshalText() ([]byte, error)  { return []byte("high"), nil }
func (o odd) IsZero() bool                   { return o < 10 }

// custom writes and reads itself, but for what is none of its arguments.
func (c *custom) MarshalJSON() ([]byte, error)    { return json.Marshal(c.kept) }
func (c *custom) UnmarshalJSON(text []byte) error { return json.Unmarshal(text, &c.kept) }
func (*custom) Run(context.Context) (bool, error) { return true, nil }

// valued is as custom, but may stand as a value.
type valued struct{ kept string }

func (v *valued) MarshalJSON() ([]byte, error)    { return json.Marshal(v.kept) }
func (v *valued) UnmarshalJSON(text []byte) error { return json.Unmarshal(text, &v.kept) }
func (valued) Run(context.Context) (bool, error)  { return true, nil }

// What would be another value in the worker's process is refused before there is
// one, with its name.
func TestEncodeRefusesWhatIsLost(t *testing.T) {
	n := big.NewInt(12345)
	for name, c := range map[string]struct {
		w    worker.Worker
		want string
	}{
		"embedded pointer":       {&withBase{base: &base{"h"}, Queue: "q"}, "its arguments cannot be read back: json: cannot set embedded pointer to unexported struct"},
		"MarshalText alone":      {&generic[level]{V: 3}, "field V: cannot be read back: json: cannot unmarshal string into Go value of type manager.level"},
		"MarshalText, a string":  {&generic[word]{V: "low"}, "field V: a manager.word would be another one in the worker's process (JSON keeps "},
		"methods of the pointer": {generic[big.Int]{V: *n}, "field V: cannot be read back: math/big: cannot unmarshal"},
		"shadowed":               {&shadowed{Base: Base{"in"}, Host: "out"}, "field Base.Host: a string would be another one"},
		"one name twice":         {&double{Base: Base{"a"}}, "field Base.Host: a string would be another one"},
		"no UTF-8":               {&generic[string]{V: "a\xff"}, "field V: a string would be another one"},
		"no UTF-8 in the depth":  {&inner{In: []map[string]struct{ T string }{{"k": {"a\xff"}}}}, "field In: a []map[string]struct { T string } would be another one"},
		"no UTF-8 as a key":      {&generic[map[string]int]{V: map[string]int{"\xff": 1}}, "field V: a map[string]int would be another one"},
		"omitzero":               {&zeroed{At: 3}, "field At: a manager.odd would be another one"},
		"pointer to nil":         {&generic[**int]{V: new(*int)}, "field V: a **int would be another one"},
		"no struct":              {text("a\xff"), "a manager.text would be another one"},
		"by value":               {valued{"x"}, "its arguments cannot be read back: json: cannot unmarshal object into Go value of type string"},
	} {
		t.Run(name, func(t *testing.T) {
			if args, err := encode(c.w); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %v; want %q", args, err, c.want)
			}
		})
	}
}

// What arrives as it was in all that can be told of it is not refused.
func TestEncodeTakesWhatArrives(t *testing.T) {
	for name, w := range map[string]worker.Worker{
		"time with a clock reading": &generic[time.Time]{V: time.Now()},
		"time elsewhere":            &generic[[]time.Time]{V: []time.Time{time.Now().In(time.FixedZone("X", 3600))}},
		"big":                       &generic[big.Int]{V: *big.NewInt(12345)},
		"big pointer, zero":         generic[*big.Int]{V: new(big.Int)},
		"empty slice":               &generic[[]int]{V: []int{}},
		"nil map":                   &generic[map[string]int]{},
		"raw":                       &generic[json.RawMessage]{V: json.RawMessage(`{ "a": 1 }`)},
		"no raw":                    &generic[json.RawMessage]{},
		"float":                     &generic[float64]{V: rand.Float64()},
		"bytes":                     &generic[[]byte]{V: []byte{0xff}},
		"array":                     &generic[[2]base]{V: [2]base{{"a"}, {"b"}}},
		"writes itself":             &custom{kept: "k", lost: "not its argument"},
		"embedded pointer":          &withExportedBase{Base: &Base{"h"}, Queue: "q"},
		"embedded nil":              &withBase{Queue: "q"},
		"word":                      &generic[word]{V: "high"},
		"dash": &generic[struct {
			F func() `json:"-"`
		}]{V: struct {
			F func() `json:"-"`
		}{func() {}}},
	} {
		if args, err := encode(w); err != nil {
			t.Errorf("%s: %s, %v", name, args, err)
		}
	}
}
