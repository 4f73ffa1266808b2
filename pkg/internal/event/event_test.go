package event

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"
)

// words are the values of the constants of one type in a file.
func words(t *testing.T, file, typ string) (out []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := v.Type.(*ast.Ident); ok && id.Name == typ && len(v.Values) == 1 {
			word, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, word)
		}
		return true
	})
	return out
}

func TestReasonsAreAllOfThem(t *testing.T) {
	var listed []string
	for _, r := range Reasons {
		listed = append(listed, string(r))
	}
	if defined := words(t, "reason.go", "Reason"); !slices.Equal(defined, listed) {
		t.Errorf("defined %v\nlisted  %v", defined, listed)
	}
}

func TestNoWordMeansTwoThings(t *testing.T) {
	for file, typ := range map[string]string{"reason.go": "Reason", "record.go": "Kind"} {
		all := words(t, file, typ)
		if len(all) < 15 {
			t.Errorf("only %d words of type %s were found", len(all), typ)
		}
		slices.Sort(all)
		if once := slices.Compact(slices.Clone(all)); len(once) != len(all) {
			t.Errorf("a word stands twice: %v", all)
		}
	}
}

func TestPlannedAndUrgent(t *testing.T) {
	planned := []Reason{MaxRequests, MaxLifetime, Timeout, SoftMemory, Finished, Stopped, Restarted, Reloaded, Removed, Shutdown}
	urgent := []Reason{Restarted, SoftMemory, MaxRequests, MaxLifetime, Reloaded} // the most urgent first
	last := len(urgent) + 1
	for _, r := range urgent {
		if u := r.Urgency(); u >= last || u <= 0 {
			t.Errorf("the urgency of %s is %d, after %d", r, u, last)
		} else {
			last = u
		}
	}
	for _, r := range Reasons {
		if r.Planned() != slices.Contains(planned, r) {
			t.Errorf("%s: planned is %v", r, r.Planned())
		}
		if (r.Urgency() > 0) != slices.Contains(urgent, r) {
			t.Errorf("%s: urgency %d", r, r.Urgency())
		}
		if r.Urgency() > 0 && !r.Planned() {
			t.Errorf("%s may wait for admission and is not planned", r)
		}
	}
}

// TestRecordSurvivesJSON: history and API write the record down and read it.
func TestRecordSurvivesJSON(t *testing.T) {
	full := Record{
		Seq: 7, Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Kind: Gone, Worker: "queue@a,b#2", Generation: 9, PID: 10,
		Reason: HardMemory, Message: "é\n", Status: "exit 3", Uptime: 1, Delay: 2, Executions: 3, Execution: "id", ExecutionAge: 4,
		Memory: 5, MemoryLimit: 6,
		PostMortem: &PostMortem{Peak: 1, Swap: 2, Stat: map[string]int64{"anon": 3}, Events: map[string]int64{"oom": 4}, Pressure: "some", PidsPeak: 5,
			Procs: []PostMortemProc{{1, 2, 3, "sh"}}, Note: "n"},
	}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("the test leaves %s out", v.Type().Field(i).Name)
		}
	}
	for _, r := range []Record{full, {Kind: ManagerStopped}} {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back Record
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(r, back) {
			t.Errorf("%+v\ncame back as\n%+v", r, back)
		}
	}
	if text, _ := json.Marshal(Record{Kind: ManagerStopped}); string(text) != `{"seq":0,"time":"0001-01-01T00:00:00Z","kind":"manager_stopped","message":""}` {
		t.Errorf("what does not apply is written: %s", text)
	}
}
