package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/client-go/rest"

	"github.com/drydock/drydock/testbed/flags"
	"github.com/drydock/drydock/testbed/jenkins"
	"github.com/drydock/drydock/testbed/jenkins/apply"
	"github.com/drydock/drydock/testbed/pagerduty"
)

// The account of the PagerDuty stand-in.
const (
	serviceID     = "PCARRIER1" // The carriers' monitoring.
	selfServiceID = "PDRYDOCK1" // Where Drydock pages about itself; it watches it not.
	opsPolicy     = "PARMOPS"
	apiPolicy     = "PARMAPI"
	botEmail      = "drydock@example.com"
)

// The component's job, as the runbook names it.
const (
	jenkinsJob  = "Armada-Microservices/armada-ops"
	jenkinsUser = "drydock"
)

// deployedBuild is the number of the build that is deployed. It is not the newest.
const deployedBuild = 412

// standIns are the remote systems that a carrier's owners do not run on it.
type standIns struct {
	pager   *pagerduty.Server
	jenkins *jenkins.Server
	flags   *flags.Server

	pagerURL, jenkinsURL, flagsURL string
	bot                            pagerduty.User
	// env are the secrets that Drydock needs, as environment variables.
	env map[string]string
}

// startStandIns starts all three, with clusters as the carriers to which Jenkins
// promotes. webhookURL is where PagerDuty sends its webhooks.
func startStandIns(ctx context.Context, clusters map[string]*rest.Config, webhookURL string) (*standIns, error) {
	s := &standIns{env: map[string]string{}}
	if err := s.startPager(ctx, webhookURL); err != nil {
		return s, err
	}
	if err := s.startJenkins(ctx, clusters); err != nil {
		return s, err
	}
	return s, s.startFlags(ctx)
}

func (s *standIns) startPager(ctx context.Context, webhookURL string) (err error) {
	s.pager = pagerduty.New(pagerduty.Options{})
	if s.pagerURL, err = s.pager.Start(ctx); err != nil {
		return err
	}
	s.bot = s.pager.AddUser(pagerduty.User{Name: "Drydock", Email: botEmail, Bot: true})
	for policy, name := range map[string]string{opsPolicy: "armada-ops", apiPolicy: "armada-api"} {
		onCall := s.pager.AddUser(pagerduty.User{Name: name + " on call", Email: name + "@example.com"})
		_, err := s.pager.AddPolicy(pagerduty.EscalationPolicy{ID: policy, Name: name, Levels: []pagerduty.Level{{Users: []string{onCall.ID}}}})
		if err != nil {
			return fmt.Errorf("add escalation policy %s: %w", policy, err)
		}
	}
	if _, err := s.pager.AddService(pagerduty.Service{ID: serviceID, Name: "containers-kubernetes", PolicyID: opsPolicy}); err != nil {
		return fmt.Errorf("add service: %w", err)
	}
	self, err := s.pager.AddService(pagerduty.Service{ID: selfServiceID, Name: "drydock itself", PolicyID: opsPolicy})
	if err != nil {
		return fmt.Errorf("add service: %w", err)
	}
	s.env["PAGERDUTY_SELF_KEY"] = self.RoutingKey
	s.env["PAGERDUTY_TOKEN"] = s.pager.AddKey(pagerduty.Key{Kind: pagerduty.AccountKey})
	s.env["PAGERDUTY_WEBHOOK_SECRET"], err = s.subscribe(ctx, webhookURL)
	return err
}

// subscribe makes the webhook subscription through the API, whose answer alone
// tells the secret.
func (s *standIns) subscribe(ctx context.Context, webhookURL string) (secret string, err error) {
	type object = map[string]any
	body, err := json.Marshal(object{"webhook_subscription": object{
		"type":            "webhook_subscription",
		"description":     "Drydock",
		"delivery_method": object{"type": "http_delivery_method", "url": webhookURL},
		"events":          pagerduty.EventTypes(),
		"filter":          object{"type": "service_reference", "id": serviceID},
	}})
	if err != nil {
		return "", fmt.Errorf("encode webhook subscription: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.pagerURL+"/webhook_subscriptions", bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("make webhook subscription: %w", err)
	}
	request.Header.Set("Authorization", "Token token="+s.env["PAGERDUTY_TOKEN"])
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("make webhook subscription: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("make webhook subscription: %w", err)
	}
	var made struct {
		Subscription struct {
			DeliveryMethod struct {
				Secret string `json:"secret"`
			} `json:"delivery_method"`
		} `json:"webhook_subscription"`
	}
	if err := json.Unmarshal(answer, &made); err != nil {
		return "", fmt.Errorf("make webhook subscription: read the answer %q: %w", answer, err)
	}
	if secret = made.Subscription.DeliveryMethod.Secret; secret == "" {
		return "", fmt.Errorf("make webhook subscription: status %d: %s", response.StatusCode, answer)
	}
	return secret, nil
}

func (s *standIns) startJenkins(ctx context.Context, clusters map[string]*rest.Config) (err error) {
	s.env["JENKINS_TOKEN"] = "11" + s.bot.ID
	s.jenkins = jenkins.New(jenkins.Options{
		Users:       []jenkins.User{{Name: jenkinsUser, Token: s.env["JENKINS_TOKEN"], MayPromote: true}},
		Apply:       apply.To(clusters, apply.ArmadaOps),
		QueueDelay:  time.Second,
		RunDuration: 3 * time.Second,
	})
	s.jenkins.AddJob(jenkinsJob, jenkins.Process{Name: carrier3}, jenkins.Process{Name: carrier2})
	// The newest build is not the one that is deployed.
	for _, b := range []struct {
		number  int
		version string
	}{{411, "2.40.2"}, {deployedBuild, deployedVersion}, {413, "2.42.0"}} {
		if _, err := s.jenkins.AddBuild(jenkinsJob, build(b.number, b.version)); err != nil {
			return err
		}
	}
	s.jenkinsURL, err = s.jenkins.Start(ctx)
	return err
}

func build(number int, version string) jenkins.Build {
	return jenkins.Build{Number: number, DisplayName: version, Parameters: map[string]string{"VERSION": version}}
}

func (s *standIns) startFlags(ctx context.Context) (err error) {
	s.env["FLAGS_TOKEN"] = "flags-" + s.bot.ID
	s.flags = flags.New(flags.Options{Token: s.env["FLAGS_TOKEN"]})
	for _, carrier := range []string{carrier3, carrier2} {
		s.flags.Set(carrier, component, deployedVersion)
	}
	s.flagsURL, err = s.flags.Start(ctx)
	return err
}

func (s *standIns) stop() {
	if s.pager != nil {
		s.pager.Close()
	}
	if s.jenkins != nil {
		s.jenkins.Close()
	}
	if s.flags != nil {
		s.flags.Close()
	}
}
