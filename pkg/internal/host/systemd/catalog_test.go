package systemd

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/workersd/workersd/pkg/internal/event"
)

// The catalog is read by people who search for what a record means, so its ids
// and fields are those of the code.
func TestCatalogNamesWhatIsWritten(t *testing.T) {
	b, err := os.ReadFile("../../../../units/workersd.catalog")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]string{memoryMessageID: "gone for want of memory"}
	for k, id := range messageIDs {
		known[id] = string(k)
	}
	written := recordFields(fullRecord())
	entries := strings.Split("\n"+string(b), "\n-- ")[1:]
	var described []string
	for _, e := range entries {
		id, text, _ := strings.Cut(e, "\n")
		described = append(described, known[id])
		if known[id] == "" {
			t.Errorf("catalog entry %s is of no record", id)
		}
		for _, want := range []string{"Subject: ", "Defined-By: workersd\n", "Support: "} {
			if !strings.Contains(text, want) {
				t.Errorf("catalog entry %s (%s) has no %q", id, known[id], want)
			}
		}
		for _, m := range regexp.MustCompile(`@([A-Z_]+)@`).FindAllStringSubmatch(text, -1) {
			if _, ok := written[m[1]]; !ok {
				t.Errorf("catalog entry %s (%s) uses the field %s, which no record has", id, known[id], m[1])
			}
		}
	}
	for _, want := range []string{"gone", "gone for want of memory", "stuck", "not_started", "manager_refused"} {
		if !slices.Contains(described, want) {
			t.Errorf("no catalog entry for %s, only %q", want, described)
		}
	}
}

func TestMessageIDsAreTheirOwn(t *testing.T) {
	seen := map[string]event.Kind{memoryMessageID: "gone for want of memory"}
	for k, id := range messageIDs {
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
			t.Errorf("MESSAGE_ID of %s is %q, expected 32 hexadecimal digits", k, id)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have the same MESSAGE_ID", k, other)
		}
		seen[id] = k
	}
	if got := MessageID(event.Record{Kind: event.Gone, Reason: event.HostMemory}); got != memoryMessageID {
		t.Errorf("MESSAGE_ID of gone for host_memory is %s, expected %s", got, memoryMessageID)
	}
	if got := MessageID(event.Record{Kind: event.Gone, Reason: event.Crashed}); got != messageIDs[event.Gone] {
		t.Errorf("MESSAGE_ID of gone for crashed is %s, expected %s", got, messageIDs[event.Gone])
	}
}
