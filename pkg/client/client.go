package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
)

// Unreachable says that no manager answers at a socket.
type Unreachable struct {
	Socket string
	Err    error
}

func (e *Unreachable) Error() string {
	return fmt.Sprintf("no manager answers at %s: %v", e.Socket, e.Err)
}
func (e *Unreachable) Unwrap() error { return e.Err }

// Client talks to one manager. It may be used by many goroutines.
type Client struct {
	socket string
	http   *http.Client
}

// New makes a client for a control socket; nothing is sent yet.
func New(socket string) *Client {
	var d net.Dialer
	return &Client{socket, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := d.DialContext(ctx, "unix", socket)
			if err != nil {
				var op *net.OpError
				if errors.As(err, &op) {
					err = op.Err
				}
				return nil, &Unreachable{socket, err}
			}
			return c, nil
		},
	}}}
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// MaxQuery is how long the names of one call may be, in bytes as they are sent:
// what a manager reads of a call is bounded.
const MaxQuery = 1000 << 10

// tooMany refuses a call before a manager does, whose refusal could be lost with
// the connection.
func tooMany() *Error {
	return &Error{Status: http.StatusRequestHeaderFieldsTooLarge, Text: "too many workers are named for one call", Hint: `use patterns such as "queue@*", or several calls`}
}

func (c *Client) do(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(b)
	}
	u := url.URL{Scheme: "http", Host: "workersd", Path: path, RawQuery: query.Encode()}
	if len(u.RawQuery) > MaxQuery {
		return nil, tooMany()
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), in)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var un *Unreachable
		if errors.As(err, &un) {
			return nil, un
		}
		return nil, c.broken(ctx, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusRequestHeaderFieldsTooLarge { // one of another version
		return nil, tooMany()
	}
	e := &Error{Status: resp.StatusCode}
	if json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(e) != nil || e.Text == "" {
		e.Text = resp.Status
	}
	return nil, e
}

func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	return c.into(c.do(ctx, http.MethodGet, path, query, nil))(into)
}

func (c *Client) post(ctx context.Context, path string, query url.Values, body, into any) error {
	return c.into(c.do(ctx, http.MethodPost, path, query, body))(into)
}

func (c *Client) into(resp *http.Response, err error) func(any) error {
	return func(v any) error {
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
			return c.broken(resp.Request.Context(), err)
		}
		return nil
	}
}

// broken says that the manager went away before all of its answer was there.
func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("the manager at %s gave no whole answer: %w", c.socket, err)
}

func workers(patterns []string) url.Values { return url.Values{"worker": patterns} }

// Status is the manager and all workers that fit a pattern; without patterns all.
func (c *Client) Status(ctx context.Context, patterns ...string) (s Status, err error) {
	err = c.get(ctx, "/v1/status", workers(patterns), &s)
	return s, err
}

// Show is all about the workers that fit.
func (c *Client) Show(ctx context.Context, patterns ...string) (w []Worker, err error) {
	err = c.get(ctx, "/v1/show", workers(patterns), &w)
	return w, err
}

// Act starts, stops, restarts or kills workers: verb is one of these words.
// With wait it returns when that is done or has failed.
func (c *Client) Act(ctx context.Context, verb string, wait bool, patterns ...string) (w []Worker, err error) {
	q := workers(patterns)
	q.Set("wait", strconv.FormatBool(wait))
	err = c.post(ctx, "/v1/"+verb, q, nil, &w)
	return w, err
}

// Reload makes the manager read its list again; with dryRun it only says what
// would change. An *Error holds the list's errors.
func (c *Client) Reload(ctx context.Context, dryRun bool) (p Plan, err error) {
	if dryRun {
		err = c.get(ctx, "/v1/plan", nil, &p)
	} else {
		err = c.post(ctx, "/v1/reload", nil, nil, &p)
	}
	return p, err
}

// Digests are the list in force, to compare with.
func (c *Client) Digests(ctx context.Context) (d Digests, err error) {
	err = c.get(ctx, "/v1/list", nil, &d)
	return d, err
}

// Why are the last ends of a worker, oldest first.
func (c *Client) Why(ctx context.Context, worker string) (r []Record, err error) {
	err = c.get(ctx, "/v1/why", workers([]string{worker}), &r)
	return r, err
}

// Events calls each with the last n records (n < 0: all that are kept), and
// with follow with every new one until ctx ends.
func (c *Client) Events(ctx context.Context, n int, follow bool, patterns []string, each func(Record) error) error {
	q := workers(patterns)
	q.Set("n", strconv.Itoa(n))
	q.Set("follow", strconv.FormatBool(follow))
	resp, err := c.do(ctx, http.MethodGet, "/v1/events", q, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for dec := json.NewDecoder(bufio.NewReader(resp.Body)); ; {
		var r Record
		switch err := dec.Decode(&r); {
		case err == io.EOF || ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return c.broken(ctx, err)
		}
		if err := each(r); err != nil {
			return err
		}
	}
}
