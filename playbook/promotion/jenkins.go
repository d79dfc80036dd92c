package promotion

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// Builds are looked through newest first, some at a time: a job may have thousands, and Jenkins reads each from disk.
const (
	buildsPage = 100
	buildsMost = 1000
)

// JenkinsConfig is the configuration of a job with the Promoted Builds plugin.
type JenkinsConfig struct {
	URL string
	Job string // with its folders: "Folder/job"
	// Promotion is the promotion process; {carrier} stands for the carrier's name. Empty: "{carrier}".
	Promotion string
	User      string
	Token     string // an API token: with one, Jenkins asks for no crumb
}

// Jenkins is a job whose builds are promoted.
type Jenkins struct {
	config JenkinsConfig
	base   *url.URL
	client *http.Client
}

// RefusedError says that Jenkins said no: nothing was started.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return e.Why }

// NewJenkins makes one. transport may be nil.
func NewJenkins(config JenkinsConfig, transport http.RoundTripper) (*Jenkins, error) {
	base, err := url.Parse(config.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.User != nil {
		return nil, fmt.Errorf("jenkins url %q is not one of http or https without a user: write https://host", config.URL)
	}
	if strings.Trim(config.Job, "/") == "" {
		return nil, errors.New("jenkins job is empty: name it with its folders, for example Folder/job")
	}
	config.Promotion = cmp.Or(config.Promotion, "{carrier}")
	for _, folder := range strings.Split(strings.Trim(config.Job, "/"), "/") {
		base = base.JoinPath("job", url.PathEscape(folder))
	}
	return &Jenkins{config: config, base: base, client: newClient(transport)}, nil
}

func (j *Jenkins) processFor(carrier string) string {
	return strings.ReplaceAll(j.config.Promotion, "{carrier}", carrier)
}

func (j *Jenkins) authorize(req *http.Request) { req.SetBasicAuth(j.config.User, j.config.Token) }

// get reads below the job.
func (j *Jenkins) get(ctx context.Context, tree string, v any, elements ...string) error {
	u := j.base.JoinPath(append(elements, "api", "json")...)
	u.RawQuery = url.Values{"tree": {tree}}.Encode()
	if err := getJSON(ctx, j.client, u.String(), j.authorize, v); err != nil {
		return fmt.Errorf("ask Jenkins: %w", err)
	}
	return nil
}

// build is what identifies a build.
type build struct {
	Number      int    `json:"number"`
	DisplayName string `json:"displayName"`
	Description string `json:"description"`
	Actions     []struct {
		Parameters []struct {
			Name  string `json:"name"`
			Value any    `json:"value"`
		} `json:"parameters"`
	} `json:"actions"`
}

// AmbiguousBuildError says that several builds call themselves the deployed version. Promoting the wrong one would deploy
// something else, so a person has to say which.
type AmbiguousBuildError struct {
	Version string
	Builds  []int
}

func (e *AmbiguousBuildError) Error() string {
	return fmt.Sprintf("Jenkins has several builds of version %s: %v", e.Version, e.Builds)
}

// buildOf finds the build of a version; 0 when there is none among the newest buildsMost. It answers *AmbiguousBuildError.
func (j *Jenkins) buildOf(ctx context.Context, version string) (int, error) {
	var found []int
	best := 0
	for from := 0; from < buildsMost; from += buildsPage {
		var job struct {
			AllBuilds []build `json:"allBuilds"`
		}
		tree := fmt.Sprintf("allBuilds[number,displayName,description,actions[parameters[name,value]]]{%d,%d}", from, from+buildsPage)
		if err := j.get(ctx, tree, &job); err != nil {
			return 0, err
		}
		for _, b := range job.AllBuilds {
			switch rank := b.names(version); {
			case rank == 0 || rank < best:
			case rank > best:
				best, found = rank, []int{b.Number}
			default:
				found = append(found, b.Number)
			}
		}
		if len(job.AllBuilds) < buildsPage {
			break
		}
	}
	switch len(found) {
	case 0:
		return 0, nil
	case 1:
		return found[0], nil
	}
	slices.Sort(found)
	return 0, &AmbiguousBuildError{Version: version, Builds: found}
}

// names ranks how surely a build says that it is of that version, from 4 (its display name) to 0 (not at all). A
// description is free text, so only a whole word of it counts.
func (b build) names(version string) int {
	if strings.TrimPrefix(b.DisplayName, "#") == version {
		return 4
	}
	for _, action := range b.Actions {
		for _, parameter := range action.Parameters {
			if value, ok := parameter.Value.(string); ok && value == version {
				return 3
			}
		}
	}
	switch {
	case slices.Contains(words(b.Description), version), slices.Contains(words(b.DisplayName), version):
		return 2
	case strconv.Itoa(b.Number) == version:
		return 1
	}
	return 0
}

// words splits a text at spaces and takes the punctuation around each word off.
func words(text string) []string {
	list := strings.Fields(text)
	for i := range list {
		list[i] = strings.Trim(list[i], `.,;:!?()[]"'`+"`")
	}
	return list
}

// NoProcessError says that the job has no such promotion process. Jenkins would answer a forced one with a bare 500.
type NoProcessError struct{ Job, Process string }

func (e *NoProcessError) Error() string {
	return fmt.Sprintf("Jenkins job %s has no promotion process %q: set promotions.*.jenkins.promotion", e.Job, e.Process)
}

func (j *Jenkins) hasProcess(ctx context.Context, process string) error {
	var property struct {
		Processes []struct {
			Name string `json:"name"`
		} `json:"processes"`
	}
	if err := j.get(ctx, "processes[name]", &property, "promotion"); err != nil {
		return err
	}
	for _, p := range property.Processes {
		if p.Name == process {
			return nil
		}
	}
	return &NoProcessError{Job: j.config.Job, Process: process}
}

// attempts are the promotions of a build by a process, oldest first. A build that was never promoted has none.
func (j *Jenkins) attempts(ctx context.Context, number int, process string) ([]playbook.Attempt, error) {
	var answer struct {
		Actions []struct {
			Promotions []struct {
				Name            string `json:"name"`
				PromotionBuilds []struct {
					Number    int    `json:"number"`
					Result    string `json:"result"`
					Building  bool   `json:"building"`
					Timestamp int64  `json:"timestamp"` // ms
					URL       string `json:"url"`
				} `json:"promotionBuilds"`
			} `json:"promotions"`
		} `json:"actions"`
	}
	tree := "actions[promotions[name,promotionBuilds[number,result,building,timestamp,url]]]"
	if err := j.get(ctx, tree, &answer, strconv.Itoa(number)); err != nil {
		return nil, err
	}
	var attempts []playbook.Attempt
	for _, action := range answer.Actions {
		for _, promotion := range action.Promotions {
			if promotion.Name != process {
				continue
			}
			for _, b := range promotion.PromotionBuilds {
				attempts = append(attempts, playbook.Attempt{Number: b.Number, Building: b.Building, Result: b.Result,
					At: time.UnixMilli(b.Timestamp).UTC(), URL: b.URL})
			}
		}
	}
	slices.SortFunc(attempts, func(a, b playbook.Attempt) int { return cmp.Compare(a.Number, b.Number) })
	return attempts, nil
}

func (j *Jenkins) promotionsURL(number int) string {
	return j.base.JoinPath(strconv.Itoa(number), "promotion").String() + "/"
}

// force asks for a promotion, once. It answers *RefusedError when Jenkins said no. Any other error, a 5xx among them,
// means that it may have begun.
func (j *Jenkins) force(ctx context.Context, number int, process, run string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	u := j.base.JoinPath(strconv.Itoa(number), "promotion", "forcePromotion")
	u.RawQuery = url.Values{"name": {process}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	// A connection of its own: net/http sends a request again by itself when a kept connection turns out to be closed.
	req.Close = true
	req.Header.Set("User-Agent", "drydock run/"+run)
	j.authorize(req)
	op := "post " + plain(u)
	resp, err := j.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", op, cause(err))
	}
	defer func() { _ = resp.Body.Close() }() // the body is a page for people
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusNotFound || code == http.StatusMethodNotAllowed:
		return &RefusedError{Why: (&StatusError{Op: op, Code: code}).Error()}
	case code == http.StatusFound || code == http.StatusSeeOther:
		return redirected(op, resp)
	default:
		return &StatusError{Op: op, Code: code}
	}
}

// redirected reads where Jenkins sends the browser: to the build's promotions when it took the call, to its login page
// when it did not know us. Any other place proves nothing.
func redirected(op string, resp *http.Response) error {
	location, err := resp.Location()
	if err != nil {
		return fmt.Errorf("%s: redirect without a place: %w", op, err)
	}
	switch last := path.Base(path.Clean(location.Path)); {
	case last == "promotion":
		return nil
	case last == "login" || last == "commenceLogin" || strings.Contains(location.Path, "/securityRealm/"):
		return &RefusedError{Why: op + ": Jenkins wants a login: check the user and its token"}
	}
	return fmt.Errorf("%s: redirected to %s, which says nothing about the promotion", op, plain(location))
}
