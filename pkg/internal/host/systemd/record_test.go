package systemd

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/workersd/workersd/pkg/internal/event"
)

// fullRecord has a value in every field.
func fullRecord() event.Record {
	return event.Record{
		Seq: 7, Time: time.Unix(1, 0), Kind: event.Gone, Worker: "queue@10.0.0.1,mail", Generation: 17, PID: 4711,
		Reason: event.HardMemory, Message: "gone: killed at hard_memory_limit 300M", Status: "signal KILL",
		Uptime: 90 * time.Second, Delay: 100 * time.Millisecond, Executions: 12, Execution: "job-13",
		ExecutionAge: 5 * time.Second, Memory: 300 << 20, MemoryLimit: 300 << 20,
		PostMortem: &event.PostMortem{
			Peak: 300 << 20, Swap: 4 << 10, PidsPeak: 3,
			Stat:     map[string]int64{"anon": 290 << 20, "file": 1 << 20},
			Events:   map[string]int64{"oom": 1, "oom_kill": 2},
			Pressure: "some avg10=1.00\nfull avg10=0.50\n",
			Procs:    []event.PostMortemProc{{PID: 4712, PPID: 4711, RSS: 289 << 20, Command: "python3 eat.py"}},
			Note:     "read before the leaf was removed",
		},
	}
}

func TestRecordFields(t *testing.T) {
	want := map[string]string{
		"MESSAGE_ID": memoryMessageID, "WORKERSD_EVENT": "gone", "WORKERSD_WORKER": "queue@10.0.0.1,mail",
		"WORKERSD_GENERATION": "17", "WORKERSD_PID": "4711", "WORKERSD_REASON": "hard_memory",
		"WORKERSD_STATUS": "signal KILL", "WORKERSD_SEQ": "7", "WORKERSD_EXECUTIONS": "12",
		"WORKERSD_EXECUTION": "job-13", "WORKERSD_EXECUTION_AGE_USEC": "5000000", "WORKERSD_UPTIME_USEC": "90000000",
		"WORKERSD_DELAY_USEC": "100000", "WORKERSD_MEMORY_BYTES": "314572800", "WORKERSD_MEMORY_LIMIT_BYTES": "314572800",
		"WORKERSD_MEMORY_PEAK_BYTES": "314572800", "WORKERSD_SWAP_BYTES": "4096", "WORKERSD_PIDS_PEAK": "3",
		"WORKERSD_POST_MORTEM": `memory peak: 300M
swap: 4K
memory.stat:
  anon 290M
  file 1M
memory.events since the start:
  oom 1
  oom_kill 2
memory.pressure:
  some avg10=1.00
  full avg10=0.50
pids peak: 3
processes:
       PID     PPID      RSS COMMAND
      4712     4711     289M python3 eat.py
read before the leaf was removed`,
	}
	if d := cmp.Diff(want, recordFields(fullRecord())); d != "" {
		t.Errorf("fields (-want +got):\n%s", d)
	}
	if got, want := recordText(fullRecord()), "queue@10.0.0.1,mail 4711 gone: killed at hard_memory_limit 300M"; got != want {
		t.Errorf("text %q, expected %q", got, want)
	}
	// What does not apply is absent, not empty or zero.
	want = map[string]string{"MESSAGE_ID": messageIDs[event.ManagerStarted], "WORKERSD_EVENT": "manager_started"}
	if d := cmp.Diff(want, recordFields(event.Record{Kind: event.ManagerStarted, Message: "started"})); d != "" {
		t.Errorf("fields of a bare record (-want +got):\n%s", d)
	}
}
