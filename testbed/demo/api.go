package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// apiPatience bounds one call of Drydock's API.
const apiPatience = 10 * time.Second

// api is Drydock's REST API, as a user of it has it.
type api struct{ url, token string }

// newAPI reads the admin token that Drydock made for users on this machine.
func newAPI(d *drydock) (api, error) {
	token, err := os.ReadFile(d.tokenFile)
	if err != nil {
		return api{}, fmt.Errorf("read Drydock's token: %w", err)
	}
	return api{d.url, strings.TrimSpace(string(token))}, nil
}

// run is a run with what happened in it, as far as the demo shows it.
type run struct {
	ID         string
	Carrier    string
	Namespace  string
	DaemonSet  string
	Incidents  []struct{ ID string }
	State      string
	Finding    string
	Why        string
	Outcome    string
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Ticks      []tick
	Intents    []intent
}

type tick struct {
	Seq                    int
	At                     time.Time
	From, To, Finding, Why string
}

type intent struct {
	Seq        int
	Lane, Kind string
	Target     struct{ Kind, Namespace, Name, UID string }
	PromisedAt time.Time `json:"promised_at"`
	SettledAt  time.Time `json:"settled_at"` // Zero while it is not known what became of it.
	Undoes     int
	Result     string
}

// event is one webhook that came in.
type event struct {
	Type, Incident, Outcome, Reason, Run string
}

func (r run) ended() bool { return r.Outcome != "" }

func (r run) about(incident string) bool {
	for _, i := range r.Incidents {
		if i.ID == incident {
			return true
		}
	}
	return false
}

// happened are the run's intents of one kind that the remote took, in order.
func (r run) happened(kind string) []intent {
	var found []intent
	for _, i := range r.Intents {
		if i.Kind == kind && i.Result == "happened" {
			found = append(found, i)
		}
	}
	return found
}

// way are the states of a run in order, each as often as it was entered.
func (r run) way() []string {
	var states []string
	for _, t := range r.Ticks {
		if len(states) == 0 || states[len(states)-1] != t.To {
			states = append(states, t.To)
		}
	}
	return states
}

// runs lists all runs, without what happened in them.
func (a api) runs(ctx context.Context) ([]run, error) {
	var page struct{ Items []run }
	return page.Items, a.get(ctx, "/api/v1/runs?limit=200", &page)
}

// run reads one run with what happened in it.
func (a api) run(ctx context.Context, id string) (run, error) {
	var r run
	return r, a.get(ctx, "/api/v1/runs/"+id, &r)
}

// events lists what came in.
func (a api) events(ctx context.Context) ([]event, error) {
	var page struct{ Items []event }
	return page.Items, a.get(ctx, "/api/v1/events?limit=200", &page)
}

func (a api) get(ctx context.Context, path string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, nil)
	if err != nil {
		return fmt.Errorf("ask Drydock for %s: %w", path, err)
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask Drydock for %s: %w", path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("ask Drydock for %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask Drydock for %s: status %d: %s", path, response.StatusCode, body)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("ask Drydock for %s: read the answer: %w", path, err)
	}
	return nil
}
