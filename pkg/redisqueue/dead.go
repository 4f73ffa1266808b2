package redisqueue

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/workersd/workersd/pkg/worker"
)

// Dead is an element of the dead list: a message that was given up.
type Dead struct {
	// Message as it was, where it is UTF-8; otherwise Bytes (base64 in JSON).
	Message string `json:"message,omitempty"`
	Bytes   []byte `json:"bytes,omitempty"`
	// Reason is one sentence for a person.
	Reason string    `json:"reason"`
	Tries  int       `json:"tries"`
	Worker string    `json:"worker"`
	Time   time.Time `json:"time"`
}

// Text is the message.
func (d Dead) Text() string {
	if d.Bytes != nil {
		return string(d.Bytes)
	}
	return d.Message
}

// ParseDead reads an element of the dead list.
func ParseDead(s string) (Dead, error) {
	var d Dead
	if err := json.Unmarshal([]byte(s), &d); err != nil {
		return d, fmt.Errorf("not an element of a dead list: %w", err)
	}
	return d, nil
}

// giveUp moves a message from the in-flight list to the dead list, as one.
func (r *reliable) giveUp(ctx context.Context, message string, tries int, reason string) {
	d := Dead{Reason: reason, Tries: tries, Worker: worker.Name(), Time: time.Now().UTC()}
	if utf8.ValidString(message) {
		d.Message = message
	} else {
		d.Bytes = []byte(message)
	}
	element, err := json.Marshal(d)
	if err != nil {
		panic(fmt.Sprintf("redisqueue: an element of the dead list cannot be written: %v", err)) // it has no such field
	}
	r.finish(ctx, &removal{message: message, dead: element})
	r.opt.Log.Error("message given up", slog.String("list", r.opt.Dead), slog.Int("tries", tries), slog.String("reason", reason))
}
