package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// Each line of the doctor fails on its own fault, is told from the others, and says what to do.
func TestDoctorLines(t *testing.T) {
	t.Parallel()
	migrated := func(t *testing.T, sql string) string {
		dsn := pgtest.New(t, migrations.Up)
		if sql != "" {
			conn, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		return dsn
	}
	good := func(*testing.T) string { return "" }
	sending := func(disabled, active bool) []map[string]any {
		return []map[string]any{{"id": "PSUBSCR1", "active": active, "delivery_method": map[string]any{
			"type": "http_delivery_method", "url": "https://drydock.example.com/webhooks/pagerduty", "temporarily_disabled": disabled}}}
	}
	denied := newStandIn(1)
	denied.denied["patch nodes"] = true
	late := newStandIn(1)
	late.ahead = time.Minute
	for name, tt := range map[string]struct {
		line, status, mend string
		dsn                func(*testing.T) string // empty: a private Postgres that was not made yet
		account            *standInPagerDuty
		carrier            *standIn
		config             string // in place of, or beside, what is well
		token              string
		saw                string           // a part of it
		flags              http.HandlerFunc // the flag service, and Jenkins; absent: neither answers
	}{
		"an old schema": {line: "database", status: checkNo, mend: `run "drydock migrate up"`, dsn: func(t *testing.T) string {
			return migrated(t, `UPDATE schema_migrations SET version = version - 1`)
		}},
		"a broken migration": {line: "database", status: checkNo, mend: `see "drydock migrate status"`, dsn: func(t *testing.T) string {
			return migrated(t, `UPDATE schema_migrations SET dirty = true`)
		}},
		"no database":        {line: "database", status: checkFailed, mend: "is it running, and is database_url right?", dsn: func(*testing.T) string { return "postgres://127.0.0.1:1/d" }},
		"no server":          {line: "river", status: checkNo, mend: `start "drydock serve" with role all or worker`, dsn: func(t *testing.T) string { return migrated(t, "") }},
		"no webhook ever":    {line: "last webhook", status: checkNo, mend: `make the subscription with "drydock pagerduty connect"; a ping from PagerDuty's page counts`, dsn: func(t *testing.T) string { return migrated(t, "") }},
		"a bad token":        {line: "pagerduty token", status: checkNo, mend: "make a token that is valid and may do this, and set pagerduty.token", token: "bad"},
		"another's From":     {line: "pagerduty from", status: checkNo, mend: "set pagerduty.from to the e-mail of the token's user", account: &standInPagerDuty{levels: 2, email: "person@example.com"}},
		"From is on call":    {line: "pagerduty from", status: checkNo, mend: "take it off: what Drydock does must be told from what a person does", account: &standInPagerDuty{levels: 2, onCall: true}},
		"no subscription":    {line: "pagerduty subscriptions", status: checkNo, mend: `make it with "drydock pagerduty connect"`, account: &standInPagerDuty{levels: 2}},
		"disabled":           {line: "pagerduty subscriptions", status: checkNo, mend: "check pagerduty.webhook_secrets, then enable it on PagerDuty's page", account: &standInPagerDuty{levels: 2, subscriptions: sending(true, true)}},
		"switched off":       {line: "pagerduty subscriptions", status: checkNo, mend: "switch it on on PagerDuty's page", account: &standInPagerDuty{levels: 2, subscriptions: sending(false, false)}},
		"one level":          {line: "escalation policy PPOLICY1", status: checkNo, mend: "add a level: with one, an escalation wakes nobody new", account: &standInPagerDuty{levels: 1, subscriptions: sending(false, true)}},
		"no such policy":     {line: "escalation policy PPOLICY1", status: checkNo, mend: "set daemonsets[].escalation_policy to the id of one that exists", account: &standInPagerDuty{levels: -1, subscriptions: sending(false, true)}},
		"a right is missing": {line: "rights on c1", status: checkNo, mend: `grant them to the kubeconfig's identity: "drydock doctor --grants c1" prints what to apply`, carrier: denied},
		"a clock is ahead":   {line: "clock of c1", status: checkNo, mend: "set both machines' clocks by NTP", carrier: late},
		"a carrier is away":  {line: "carrier c1", status: checkFailed, mend: "is the API server reachable from here, and is the credential valid?", config: "dead"},
		"no kubeconfig":      {line: "carrier c1", status: checkNo, mend: "mend the kubeconfig", config: "none"},
		"no flag service": {line: "promotion ops", status: checkFailed, mend: "is the flag service, and is Jenkins, reachable from here?",
			config: "promotion"},
		"a refused token": {line: "promotion ops", status: checkNo, mend: "make a token that may read there, and set it as the token of promotions.ops.version or .jenkins",
			saw: "c1: refused: ", config: "promotion", flags: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }},
		"another carrier's version": {line: "promotion ops", status: checkNo, mend: "is the address right?", saw: "c2: ", config: "promotion",
			flags: func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/c1":
					_, _ = w.Write([]byte(`{"v":"1.2.3"}`))
				case "/c2":
					w.WriteHeader(http.StatusNotFound)
				default: // Jenkins
					_, _ = w.Write([]byte(`{"allBuilds":[{"number":7,"displayName":"1.2.3"}],"processes":[{"name":"c1"}]}`))
				}
			}},
		"all is well": {line: "clock of c1", status: checkOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.dsn == nil {
				tt.dsn = good
			}
			if tt.account == nil {
				tt.account = &standInPagerDuty{levels: 2, subscriptions: sending(false, true)}
			}
			if tt.carrier == nil {
				tt.carrier = newStandIn(1)
			}
			account := httptest.NewServer(tt.account)
			t.Cleanup(account.Close)
			dir := t.TempDir()
			kubeconfig := tt.carrier.serve(t, dir, "c1")
			switch tt.config {
			case "dead":
				kubeconfig = writeFile(t, "dead.yaml", deadCarrier)
			case "none":
				kubeconfig = filepath.Join(dir, "nowhere.yaml")
			}
			text := fmt.Sprintf("mode: act\ndata_dir: %s\npublic_url: https://drydock.example.com\nself_alert: {routing_key: {env: X}}\n"+
				"pagerduty: {api_url: %q, from: drydock@example.com, token: {env: TOKEN}, webhook_secrets: [{env: X}]}\n"+
				"carriers: [{name: c1, kubeconfig: %[3]s}, {name: c2, kubeconfig: %[3]s}]\n", dir, account.URL, kubeconfig)
			dsn := tt.dsn(t)
			if dsn != "" {
				text += "database_url: {env: DSN}\nbackup_key: {env: KEY}\n"
			}
			promotion := ""
			if tt.config == "promotion" {
				promotion = ", promotion: ops"
				address := "http://127.0.0.1:1"
				if tt.flags != nil {
					flags := httptest.NewServer(tt.flags)
					t.Cleanup(flags.Close)
					address = flags.URL
				}
				text += fmt.Sprintf("promotions: {ops: {version: {source: http, url: \"%[1]s/{carrier}\", json_path: v}, "+
					"jenkins: {url: %[1]q, job: a, user: u, token: {env: X}}}}\n", address)
			}
			text += "daemonsets: [{name: node-exporter, namespace: monitoring, escalation_policy: PPOLICY1" + promotion + "}]\n"
			cfg, err := parseConfig(filepath.Join(dir, "drydock.yaml"), []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			token := tt.token
			if token == "" {
				token = "good"
			}
			env := map[string]string{"DSN": dsn, "TOKEN": token, "X": "x", "KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
			d := &doctor{app: &app{getenv: func(name string) string { return env[name] }, stdout: &buffer{}, stderr: &buffer{}}, cfg: cfg, now: time.Now}
			if err := d.secrets(); err != nil {
				t.Fatal(err)
			}
			report := d.run(t.Context(), 20*time.Second)
			seen := false
			for _, c := range report.Checks {
				if c.Name == tt.line {
					seen = true
					if c.Status != tt.status || c.Mend != tt.mend || c.Saw == "" || !strings.Contains(c.Saw, tt.saw) {
						t.Errorf("got %+v, want %s with %q", c, tt.status, tt.mend)
					}
				}
				if (c.Status == checkNo || c.Status == checkFailed) && c.Mend == "" {
					t.Errorf("%s does not say what to do: %+v", c.Name, c)
				}
			}
			if !seen || report.Healthy != (tt.status == checkOK) {
				t.Errorf("healthy: %t, line %q: %+v", report.Healthy, tt.line, report.Checks)
			}
		})
	}
}
