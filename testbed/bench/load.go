package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What the events are about. Each has a target of its own, so that each starts a run.
const (
	carriers   = 500
	daemonSets = 4000
	namespace  = "monitoring"
)

func carrierName(i int64) string   { return fmt.Sprintf("prod-dal10-carrier%03d", i%carriers) }
func daemonSetName(i int64) string { return fmt.Sprintf("node-exporter-%04d", i/carriers) }

// webhookText is an incident.triggered of PagerDuty V3, of the usual 2 kB, with {places} for what differs.
//
//go:embed webhook.json
var webhookText string

// body is the i-th event's. Bodies are all of one length.
func body(i int64) string {
	return strings.NewReplacer(
		"{event}", eventID(i), "{incident}", incidentID(i), "{number}", strconv.FormatInt(3_000_000+i, 10),
		"{carrier}", carrierName(i), "{daemonset}", daemonSetName(i),
	).Replace(webhookText)
}

// The ids have the lengths of PagerDuty's: a ULID, 14 characters, a UUID.
func eventID(i int64) string    { return fmt.Sprintf("01%024d", i) }
func incidentID(i int64) string { return fmt.Sprintf("Q%013d", i) }
func webhookID(i int64) string  { return fmt.Sprintf("01930000-0000-7000-8000-%012d", i) }

// window is what one side did in one window.
type window struct {
	Done int           `json:"done"`
	Rate float64       `json:"per_second"`
	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
	// CPU is the processor time of everything that took part, divided by Done; 0 where the system does not tell.
	CPU      time.Duration `json:"cpu_ns"`
	Database time.Duration `json:"database_cpu_ns"` // Postgres' part of it
}

// generator sends signed webhooks over plain connections. It shares the machine's processors with what it measures, so it
// is as thin as pgbench is: it writes a request and reads the answer, without net/http's client and its goroutines.
type generator struct {
	address string
	secret  []byte
	sent    atomic.Int64 // events made so far
}

// run keeps conns connections busy for d: each sends its next request when the last one is answered, as pgbench's clients
// do. Any answer but 202 is an error.
func (g *generator) run(ctx context.Context, conns int, d time.Duration) (window, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clients := make([]*client, conns)
	for i := range clients {
		c, err := g.dial(ctx)
		if err != nil {
			return window{}, err
		}
		defer func() { _ = c.conn.Close() }()
		clients[i] = c
	}
	start := time.Now()
	end := start.Add(d)
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() {
			for ctx.Err() == nil && time.Now().Before(end) {
				if err := c.send(g.sent.Add(1) - 1); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	if err := context.Cause(ctx); err != nil {
		return window{}, err
	}
	var latencies []time.Duration
	for _, c := range clients {
		latencies = append(latencies, c.latencies...)
	}
	return summarize(latencies, took)
}

func summarize(latencies []time.Duration, took time.Duration) (window, error) {
	if len(latencies) == 0 {
		return window{}, errors.New("nothing was done in a window")
	}
	return window{Done: len(latencies), Rate: float64(len(latencies)) / took.Seconds(),
		P50: quantile(latencies, 0.50), P99: quantile(latencies, 0.99)}, nil
}

// client is one connection.
type client struct {
	conn      net.Conn
	answers   *bufio.Reader
	mac       hash.Hash
	buffer    bytes.Buffer
	latencies []time.Duration
}

const answerPatience = 20 * time.Second // PagerDuty gives up after 16 s

func (g *generator) dial(ctx context.Context) (*client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", g.address)
	if err != nil {
		return nil, fmt.Errorf("connect the load generator: %w", err)
	}
	return &client{conn: conn, answers: bufio.NewReader(conn), mac: hmac.New(sha256.New, g.secret)}, nil
}

// send delivers the i-th event. What making and signing it takes is PagerDuty's time and not in the latency.
func (c *client) send(i int64) error {
	if i >= carriers*daemonSets {
		return errors.New("the load generator has run out of targets: raise daemonSets")
	}
	text := body(i)
	c.mac.Reset()
	_, _ = io.WriteString(c.mac, text) // a hash never fails
	c.buffer.Reset()
	fmt.Fprintf(&c.buffer, "POST /webhooks/pagerduty HTTP/1.1\r\nHost: drydock\r\nContent-Type: application/json\r\n"+
		"User-Agent: PagerDuty-Webhook/V3.0\r\nX-Webhook-Id: %s\r\nX-Webhook-Subscription: PSUBSCR\r\nX-PagerDuty-Signature: v1=%s\r\n"+
		"Content-Length: %d\r\n\r\n%s", webhookID(i), hex.EncodeToString(c.mac.Sum(nil)), len(text), text)
	began := time.Now()
	if err := c.conn.SetDeadline(began.Add(answerPatience)); err != nil {
		return fmt.Errorf("send webhook: %w", err)
	}
	if _, err := c.conn.Write(c.buffer.Bytes()); err != nil {
		return fmt.Errorf("send webhook: %w", err)
	}
	status, answer, err := readAnswer(c.answers)
	if err != nil {
		return fmt.Errorf("read the answer to webhook %d: %w", i, err)
	}
	if status != "202" {
		return fmt.Errorf("webhook %d was answered with %s: %s", i, status, answer)
	}
	c.latencies = append(c.latencies, time.Since(began))
	return nil
}

// readAnswer reads one HTTP/1.1 response that says its length, as all of this size do.
func readAnswer(r *bufio.Reader) (status string, body []byte, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", nil, err
	}
	fields := bytes.Fields(line)
	if len(fields) < 2 {
		return "", nil, fmt.Errorf("status line %q", line)
	}
	status = string(fields[1])
	length := -1
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return "", nil, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return "", nil, fmt.Errorf("header %q: %w", line, err)
			}
		}
	}
	if length < 0 {
		return "", nil, errors.New("answer has no Content-Length")
	}
	body = make([]byte, length)
	_, err = io.ReadFull(r, body)
	return status, body, err
}
