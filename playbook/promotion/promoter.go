package promotion

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drydock/drydock/playbook"
)

// callTimeout is how long one request to the version source or to Jenkins may take.
const callTimeout = 10 * time.Second

// VersionSource names the version of a component that is deployed on a carrier. There are three: HTTPSource, LaunchDarkly and
// FlagSet.
type VersionSource interface {
	// Version answers "" when the source names no version for this carrier any more. An error means that it is not known.
	Version(ctx context.Context, carrier, component string) (string, error)
	// Name is the source in words, for people.
	Name() string
}

// Component is how one component is deployed again.
type Component struct {
	Source  VersionSource
	Jenkins *Jenkins
}

// Promoter implements playbook.Promoter over the configured components. It is safe for concurrent use.
type Promoter struct {
	components map[string]Component

	mu     sync.Mutex
	builds map[buildKey]int
}

type buildKey struct{ component, version string }

var _ playbook.Promoter = (*Promoter)(nil)

// New makes a promoter of components by their names in the configuration.
func New(components map[string]Component) *Promoter {
	return &Promoter{components: components, builds: map[buildKey]int{}}
}

// UnknownComponentError says that the configuration has no such component.
type UnknownComponentError struct{ Component string }

func (e *UnknownComponentError) Error() string {
	return fmt.Sprintf("component %q is not configured: add it to promotions", e.Component)
}

// Promotion reads the deployed version, its build and the attempts so far, see playbook.Promoter.
func (p *Promoter) Promotion(ctx context.Context, carrier, component string) playbook.Reading[playbook.Promotion] {
	seen, err := p.Read(ctx, carrier, component)
	if err != nil {
		return playbook.Unknown[playbook.Promotion](err.Error())
	}
	return playbook.Known(seen)
}

// Read is Promotion with an error that tells a refusal (*StatusError) from an outage.
func (p *Promoter) Read(ctx context.Context, carrier, component string) (playbook.Promotion, error) {
	c, ok := p.components[component]
	if !ok {
		return playbook.Promotion{}, &UnknownComponentError{Component: component}
	}
	seen := playbook.Promotion{Component: component, Source: c.Source.Name()}
	var err error
	if seen.Version, err = c.Source.Version(ctx, carrier, component); err != nil || seen.Version == "" {
		return seen, err
	}
	if seen.Build, err = p.build(ctx, component, seen.Version); err != nil || seen.Build == 0 {
		return seen, err
	}
	process := c.Jenkins.processFor(carrier)
	if err := c.Jenkins.hasProcess(ctx, process); err != nil {
		return seen, err
	}
	seen.Attempts, err = c.Jenkins.attempts(ctx, seen.Build, process)
	return seen, err
}

// build finds the build of a version, once: a build keeps its number. 0 when the CI has none.
func (p *Promoter) build(ctx context.Context, component, version string) (int, error) {
	key := buildKey{component, version}
	p.mu.Lock()
	number, ok := p.builds[key]
	p.mu.Unlock()
	if ok {
		return number, nil
	}
	number, err := p.components[component].Jenkins.buildOf(ctx, version)
	if err != nil || number == 0 {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.builds[key] = number
	return number, nil
}

// Do asks for the promotion once, see playbook.Promoter.
func (p *Promoter) Do(ctx context.Context, call playbook.Call) (playbook.Settlement, error) {
	a, ok := call.Action.(playbook.Promote)
	if !ok {
		return playbook.Settlement{}, fmt.Errorf("action %q is not a promotion", call.Action.Kind())
	}
	c, ok := p.components[a.Component]
	if !ok {
		return refused((&UnknownComponentError{Component: a.Component}).Error()), nil
	}
	if a.Build <= 0 {
		return refused("there is no build of version " + a.Version), nil
	}
	process := c.Jenkins.processFor(a.Carrier)
	attempts, err := c.Jenkins.attempts(ctx, a.Build, process)
	if err != nil {
		return notSent(err), nil
	}
	if newer, ok := newerThan(attempts, a.Before); ok {
		// Somebody promoted it since we looked. A second promotion would deploy everything twice.
		return playbook.Settlement{Result: playbook.Superseded, Detail: fmt.Sprintf("attempt %d is there already", newer.Number), Receipt: newer.URL}, nil
	}
	err = c.Jenkins.force(ctx, a.Build, process, call.Run)
	if no, ok := errors.AsType[*RefusedError](err); ok {
		return refused(no.Error()), nil
	}
	if err != nil {
		return playbook.Settlement{}, err
	}
	return playbook.Settlement{Result: playbook.Happened, Detail: fmt.Sprintf("asked for the promotion of build %d to %s", a.Build, a.Carrier),
		Receipt: c.Jenkins.promotionsURL(a.Build)}, nil
}

// Recover looks for an attempt newer than the one known before the call, see playbook.Promoter. NotHappened says that none
// is seen yet: an attempt gets its number only when it leaves Jenkins' queue.
func (p *Promoter) Recover(ctx context.Context, i playbook.Intent) (playbook.Settlement, error) {
	a, ok := i.Action.(playbook.Promote)
	if !ok {
		return playbook.Settlement{}, fmt.Errorf("action %q is not a promotion", i.Action.Kind())
	}
	c, ok := p.components[a.Component]
	if !ok {
		return playbook.Settlement{Result: playbook.NotHappened, Detail: "component " + a.Component + " is not configured any more"}, nil
	}
	attempts, err := c.Jenkins.attempts(ctx, a.Build, c.Jenkins.processFor(a.Carrier))
	if status, answered := errors.AsType[*StatusError](err); answered && status.Code == http.StatusNotFound {
		// The build was deleted. Nothing more can be seen of it, and the promotion is never sent again: the run must not wait
		// for ever, holding its carrier's claim.
		return playbook.Settlement{Result: playbook.NotHappened, Detail: fmt.Sprintf("Jenkins has no build %d any more", a.Build)}, nil
	}
	if err != nil {
		return playbook.Settlement{}, err
	}
	if newer, ok := newerThan(attempts, a.Before); ok {
		return playbook.Settlement{Result: playbook.Happened, Detail: fmt.Sprintf("found attempt %d", newer.Number), Receipt: newer.URL}, nil
	}
	return playbook.Settlement{Result: playbook.NotHappened, Detail: "no attempt newer than " + fmt.Sprint(a.Before) + " is seen"}, nil
}

// newerThan is the first attempt after the one that was known.
func newerThan(attempts []playbook.Attempt, before int) (playbook.Attempt, bool) {
	i := slices.IndexFunc(attempts, func(a playbook.Attempt) bool { return a.Number > before })
	if i < 0 {
		return playbook.Attempt{}, false
	}
	return attempts[i], true
}

// notSent settles a promotion whose preceding read failed.
func notSent(err error) playbook.Settlement {
	return playbook.Settlement{Result: playbook.NotHappened, Detail: "not sent: " + err.Error()}
}

func refused(detail string) playbook.Settlement {
	return playbook.Settlement{Result: playbook.Refused, Detail: detail}
}

// fill puts the carrier and the component into a template, each escaped.
func fill(template, carrier, component string, escape func(string) string) string {
	return strings.NewReplacer("{carrier}", escape(carrier), "{component}", escape(component)).Replace(template)
}
