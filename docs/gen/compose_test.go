package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// composeFile is the part of the Compose specification that docker-compose.yml uses; any other key is an error here.
type composeFile struct {
	Services map[string]composeService    `yaml:"services"`
	Configs  map[string]map[string]string `yaml:"configs"`
	Secrets  map[string]struct {
		Environment string `yaml:"environment"`
	} `yaml:"secrets"`
	Volumes map[string]any `yaml:"volumes"`
}

type composeService struct {
	Build struct {
		Context    string `yaml:"context"`
		Dockerfile string `yaml:"dockerfile"`
	} `yaml:"build"`
	Image     string   `yaml:"image"`
	Command   []string `yaml:"command"`
	Profiles  []string `yaml:"profiles"`
	DependsOn map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Environment map[string]string `yaml:"environment"`
	Configs     []struct {
		Source string `yaml:"source"`
		Target string `yaml:"target"`
	} `yaml:"configs"`
	Secrets     []string `yaml:"secrets"`
	Volumes     []string `yaml:"volumes"`
	Ports       []string `yaml:"ports"`
	Healthcheck *struct {
		Test        []string `yaml:"test"`
		Interval    string   `yaml:"interval"`
		Timeout     string   `yaml:"timeout"`
		Retries     int      `yaml:"retries"`
		StartPeriod string   `yaml:"start_period"`
	} `yaml:"healthcheck"`
	ReadOnly        bool     `yaml:"read_only"`
	Tmpfs           []string `yaml:"tmpfs"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
	StopSignal      string   `yaml:"stop_signal"`
	StopGracePeriod string   `yaml:"stop_grace_period"`
	Restart         string   `yaml:"restart"`
}

// TestCompose checks what docker compose config would: every name that is used is declared, and the other way round; and what it would
// not: that nothing listens beyond this machine, that images have versions, and that Drydock's containers may do next to nothing.
func TestCompose(t *testing.T) {
	t.Parallel()
	text := read(t, "docker-compose.yml")
	var c composeFile
	if err := yaml.UnmarshalWithOptions([]byte(text), &c, yaml.Strict(), yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	usedSecrets, usedVolumes, usedConfigs := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for name, s := range c.Services {
		for other, on := range s.DependsOn {
			switch before, ok := c.Services[other]; {
			case !ok:
				t.Errorf("%s depends on %s, which is no service", name, other)
			case on.Condition == "service_healthy" && before.Healthcheck == nil:
				t.Errorf("%s waits for the health of %s, which has no health check", name, other)
			case on.Condition == "service_completed_successfully" && before.Restart != "no":
				t.Errorf("%s waits for the end of %s, which begins again for ever", name, other)
			}
		}
		for _, secret := range s.Secrets {
			usedSecrets[secret] = true
		}
		for _, config := range s.Configs {
			usedConfigs[config.Source] = true
		}
		for _, volume := range s.Volumes {
			from, _, _ := strings.Cut(volume, ":")
			if !strings.HasPrefix(from, ".") {
				usedVolumes[from] = true
			} else if _, err := os.Stat(filepath.Join(root, from)); err != nil && from != "./carriers" {
				t.Errorf("%s mounts %s, which does not exist", name, from)
			}
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s listens on %s, beyond this machine", name, port)
			}
		}
		switch _, tag, _ := strings.Cut(s.Image, ":"); {
		case s.Build.Dockerfile != "":
			if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
				t.Errorf("%s may do more than it must", name)
			}
			read(t, s.Build.Dockerfile)
		case tag == "" || tag == "latest":
			t.Errorf("%s has an image without a version", name)
		}
		if s.Restart == "" {
			t.Errorf("%s does not say what happens after its end", name)
		}
	}
	same := func(what string, used map[string]bool, declared []string) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(used)); !slices.Equal(got, declared) {
			t.Errorf("%s: %v are used, %v declared", what, got, declared)
		}
	}
	same("secrets", usedSecrets, slices.Sorted(maps.Keys(c.Secrets)))
	same("volumes", usedVolumes, slices.Sorted(maps.Keys(c.Volumes)))
	same("configs", usedConfigs, slices.Sorted(maps.Keys(c.Configs)))

	variables := map[string]bool{}
	for _, name := range found(`\$\{(\w+)`, text) {
		variables[name] = true
	}
	for _, s := range c.Secrets {
		variables[s.Environment] = true
	}
	declared := found(`(?m)^(\w+)=`, read(t, ".env.example"))
	slices.Sort(declared)
	same("variables of .env.example", variables, declared)
	for _, file := range regexp.MustCompile(`/run/secrets/(\w+)`).FindAllStringSubmatch(text, -1) {
		if _, ok := c.Secrets[file[1]]; !ok {
			t.Errorf("/run/secrets/%s is no secret", file[1])
		}
	}
}
