package demo

import (
	_ "embed"
	"fmt"
	"os"
	"strings"
	"text/template"
)

//go:embed drydock.yaml.tmpl
var configText string

var configTemplate = template.Must(template.New("drydock.yaml").Option("missingkey=error").Parse(configText))

// config is what the demo's drydock.yaml depends on.
type config struct {
	Listen, DataDir                string
	PagerURL, FlagsURL, JenkinsURL string
	From, ServiceID                string
	OpsPolicy, APIPolicy           string
	JenkinsJob, JenkinsUser        string
	DrainNamespace                 string
	Carriers                       []configCarrier
	Tokens                         []configToken // none: Drydock makes an admin's
}

type configCarrier struct {
	Name, Kubeconfig string
	Mode             string // empty: act
}

// configToken is an API token; Env is the variable with its SHA-256.
type configToken struct{ Name, Role, Env string }

func newConfig(listen, dataDir string, remote *standIns, carriers []configCarrier) config {
	return config{
		Listen: listen, DataDir: dataDir,
		PagerURL: remote.pagerURL, FlagsURL: remote.flagsURL, JenkinsURL: remote.jenkinsURL,
		From: botEmail, ServiceID: serviceID, OpsPolicy: opsPolicy, APIPolicy: apiPolicy,
		JenkinsJob: jenkinsJob, JenkinsUser: jenkinsUser, DrainNamespace: mastersNamespace, Carriers: carriers,
	}
}

// write writes the drydock.yaml.
func (c config) write(path string) error {
	var text strings.Builder
	if err := configTemplate.Execute(&text, c); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}
