package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/pagerduty"
)

var stormSize = flag.Int("webhooks", 10_000, "distinct webhooks of the storm")

const (
	stormCarriers = 49 // with three DaemonSets each: the storm of a bad release
	stormSenders  = 32
	// pagerPatience is how long PagerDuty waits for an answer before it counts the webhook as failed.
	pagerPatience = 5 * time.Second
	mostMemory    = 256 << 20
)

// stormed is one webhook, with its copies.
type stormed struct {
	webhook, event, incident string
	body                     []byte
	signature                string
}

// TestStorm sends ten thousand signed webhooks, each up to three times and in no order, to one Drydock that works the runs
// which they start.
func TestStorm(t *testing.T) {
	drawn := drawn(t)
	s := raise(t, options{seed: drawn, replicas: 1, absent: stormCarriers, mode: playbook.ModeObserve, deadline: 30 * time.Minute})
	random := rand.New(rand.NewPCG(drawn, 1))
	all, incidents, err := s.storm(*stormSize)
	if err != nil {
		t.Fatal(err)
	}
	// Up to three copies of each, all of them in no order.
	var copies []stormed
	for _, w := range all {
		copies = append(copies, slices.Repeat([]stormed{w}, 1+random.IntN(3))...)
	}
	random.Shuffle(len(copies), func(i, j int) { copies[i], copies[j] = copies[j], copies[i] })

	began := time.Now()
	answered, failures := s.send(t.Context(), copies)
	took := time.Since(began)
	for _, f := range failures {
		t.Error(f)
	}
	slices.Sort(answered)
	t.Logf("%d distinct webhooks, %d deliveries in %v; answers: p50 %v, p99 %v, longest %v", len(all), len(copies), took.Round(time.Millisecond),
		answered[len(answered)/2], answered[len(answered)*99/100], answered[len(answered)-1])
	if longest := answered[len(answered)-1]; longest > pagerPatience {
		t.Errorf("an answer took %v, and PagerDuty waits %v", longest, pagerPatience)
	}
	s.countStorm(t, all, incidents)
	now, peak, err := s.replicas[0].resident()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("resident memory: %d MiB, at its peak %d MiB", now>>20, peak>>20)
	if peak > mostMemory {
		t.Errorf("resident memory was %d MiB at its peak, want less than %d", peak>>20, mostMemory>>20)
	}
}

// storm makes the webhooks: an incident for every target, and for the rest what else happens to these incidents and to others
// that are nobody's matter.
func (s *stage) storm(size int) (all []stormed, incidents int, err error) {
	type object = map[string]any
	add := func(kind, incident string, data object) error {
		w := stormed{webhook: uuid.NewString(), event: uuid.NewString(), incident: incident}
		w.body, err = json.Marshal(object{"event": object{
			"id": w.event, "event_type": kind, "resource_type": "incident", "occurred_at": time.Now().UTC().Format(time.RFC3339Nano),
			"agent": nil, "client": nil, "data": data,
		}})
		w.signature = pagerduty.Sign(s.secret, w.body)
		all = append(all, w)
		return err
	}
	incident := func(id, title string) object {
		return object{"id": id, "type": "incident", "number": len(all), "status": "triggered", "title": title, "urgency": "high",
			"created_at": time.Now().UTC().Format(time.RFC3339), "html_url": s.pagerURL + "/incidents/" + id,
			"service": object{"id": serviceID, "type": "service_reference"}, "assignees": []any{}}
	}
	var ids []string
	for n := range stormCarriers {
		for _, name := range []string{"node-exporter", "docker-metrics-endpoint", "ibm-kube-fluentd"} {
			title := fmt.Sprintf("blumemix.containers-kubernetes.prod-dal10-carrier%d.not_running_all_%s_demonsets.us-south", n+1, name)
			in, err := s.pager.Trigger(selfServiceID, pagerduty.Alert{Summary: title}) // nobody is subscribed to that service
			if err != nil {
				return nil, 0, err
			}
			ids = append(ids, in.ID)
			if err := add("incident.triggered", in.ID, incident(in.ID, title)); err != nil {
				return nil, 0, err
			}
		}
	}
	for len(all) < size {
		id := ids[len(all)%len(ids)]
		switch len(all) % 3 {
		case 0:
			err = add("incident.annotated", id, object{"id": uuid.NewString(), "type": "incident_note", "content": "looking", "trimmed": false,
				"incident": object{"id": id, "type": "incident_reference"}})
		case 1:
			err = add("incident.priority_updated", id, incident(id, "whatever it is called"))
		default:
			other := fmt.Sprintf("Q%013d", len(all))
			err = add("incident.triggered", other, incident(other, "the coffee machine is out of beans"))
		}
		if err != nil {
			return nil, 0, err
		}
	}
	return all, len(ids), nil
}

// send delivers them, some at a time, and reports how long each answer took.
func (s *stage) send(ctx context.Context, copies []stormed) (answered []time.Duration, failures []string) {
	client := &http.Client{Timeout: 3 * pagerPatience, Transport: &http.Transport{MaxIdleConnsPerHost: stormSenders}}
	queue := make(chan stormed)
	var mu sync.Mutex
	var senders sync.WaitGroup
	for range stormSenders {
		senders.Go(func() {
			for w := range queue {
				took, err := s.post(ctx, client, w)
				mu.Lock()
				answered = append(answered, took)
				if err != nil && len(failures) < 10 {
					failures = append(failures, err.Error())
				}
				mu.Unlock()
			}
		})
	}
	for _, w := range copies {
		queue <- w
	}
	close(queue)
	senders.Wait()
	return answered, failures
}

func (s *stage) post(ctx context.Context, client *http.Client, w stormed) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.replicas[0].url()+"/webhooks/pagerduty", bytes.NewReader(w.body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Webhook-Id", w.webhook)
	request.Header.Set("X-PagerDuty-Signature", w.signature)
	began := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return time.Since(began), err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	took := time.Since(began)
	if err == nil && response.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("webhook %s was answered with %s: %s", w.webhook, response.Status, answer)
	}
	return took, err
}

// countStorm compares the database with what was sent.
func (s *stage) countStorm(t *testing.T, all []stormed, incidents int) {
	t.Helper()
	for what, count := range map[string]struct {
		sql  string
		want int
	}{
		"events":                               {`SELECT count(*) FROM events`, len(all)},
		"distinct webhooks":                    {`SELECT count(DISTINCT webhook_id) FROM events`, len(all)},
		"distinct events of PagerDuty":         {`SELECT count(DISTINCT event_id) FROM events`, len(all)},
		"events that started a run":            {`SELECT count(*) FROM events WHERE outcome = 'started'`, incidents},
		"runs":                                 {`SELECT count(*) FROM runs`, incidents},
		"incidents with a run":                 {`SELECT count(DISTINCT incident) FROM run_incidents`, incidents},
		"events with an outcome of their kind": {`SELECT count(*) FROM events WHERE outcome IN ('started', 'followed', 'ignored')`, len(all)},
	} {
		var got int
		err := await.Until(within(t.Context(), 10*time.Second), what, func(ctx context.Context) error {
			return s.postgres.pool.QueryRow(ctx, count.sql).Scan(&got)
		})
		if err != nil {
			t.Error(err)
		}
		if got != count.want {
			t.Errorf("%s: the database has %d, want %d", what, got, count.want)
		}
	}
}
