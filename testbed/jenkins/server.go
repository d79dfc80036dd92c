package jenkins

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drydock/drydock/testbed/standin"
)

// The results of a build. An empty result is a build that still runs.
const (
	Success = "SUCCESS"
	Failure = "FAILURE"
	Aborted = "ABORTED"
)

// Apply is what a promotion does: it deploys a build to the carrier that the
// process is named after. Its error makes the promotion a FAILURE. Its context
// ends with the server.
type Apply func(ctx context.Context, carrier, job string, build Build) error

// User is someone with an API token. Without MayPromote, forcing is a 403, and
// re-executing and approving do nothing and look as if they had.
type User struct {
	Name, Token string
	MayPromote  bool
}

// Options of a Server.
type Options struct {
	Users []User
	// Apply is run by every promotion; nil deploys nothing.
	Apply Apply
	// QueueDelay is how long an attempt waits before it starts, RunDuration how
	// long it runs at least; both on Clock.
	QueueDelay, RunDuration time.Duration
	Clock                   standin.Clock // Default the wall clock.
	Addr                    string        // Default a free port on loopback.
}

// Process is a promotion process of a job.
type Process struct {
	Name string
	// Manual gives it a manual condition, which can be approved once a build.
	Manual bool
	// Approvers, when not empty, are the only ones who may promote.
	Approvers []string
}

// Build is one build of a job.
type Build struct {
	// Number counts from 1; 0 in AddBuild means the next one.
	Number int
	// DisplayName is "#12" unless the job names its builds, as after a version.
	DisplayName string
	Description string
	Parameters  map[string]string
	Result      string // Default SUCCESS.
	StartedAt   time.Time
}

// Attempt is one promotion of one build by one process.
type Attempt struct {
	Job     string
	Build   int
	Process string
	// Number counts the process's attempts over all builds, from 1; 0 while in
	// the queue.
	Number int
	Cause  string // "forced", "re-executed" or "approved".
	By     string // The user.
	Result string // Empty until it ended.
	Err    string // What Apply said.

	QueuedAt, StartedAt, FinishedAt time.Time
}

// Behaviour is what may go differently without being an HTTP failure.
type Behaviour struct {
	// Result, when set, ends attempts whatever Apply returned.
	Result string
	// SkipApply keeps attempts from running Apply.
	SkipApply bool
	// Stuck keeps new attempts in the queue for ever, as when no executor is
	// there.
	Stuck bool
	// QuietDown takes requests to promote, answers as usual and schedules
	// nothing, as when Jenkins is about to shut down.
	QuietDown bool
}

// Request is one request that arrived.
type Request struct {
	Method, Path, Query string
	User                string // As claimed by basic authentication.
	Body                string
}

// Server is the stand-in. Make one with New.
type Server struct {
	// Faults are injected into any request.
	Faults standin.Faults

	opts       Options
	handler    http.Handler
	background standin.Background
	changes    standin.Changes

	mu        sync.Mutex
	base      string
	behaviour Behaviour
	jobs      []*job
	attempts  []*Attempt
	requests  []Request
	stop      context.CancelFunc
}

// job is a freestyle project; its path has the folders: "folder/job".
type job struct {
	path      string
	processes []*process
	builds    []*build // By number.
}

type process struct {
	Process
	last  int // The number of the newest attempt.
	busy  bool
	queue []*Attempt // Those whose delay has passed, behind a busy process.
}

// build knows which processes it was qualified for, in order, with the attempts.
type build struct {
	Build
	promotions []*promotion
	approved   []string // Processes with a manual approval.
}

type promotion struct {
	process  *process
	attempts []*Attempt // Oldest first; started ones only.
}

// New makes a server without jobs.
func New(o Options) *Server {
	if o.Clock == nil {
		o.Clock = standin.Wall{}
	}
	s := &Server{opts: o, base: "http://jenkins.invalid", stop: func() {}}
	s.handler = s.record(s.Faults.Wrap(http.HandlerFunc(s.serve)))
	return s
}

// Handler serves Jenkins.
func (s *Server) Handler() http.Handler { return s.handler }

// Start listens and runs promotions until ctx ends or Close, and returns the
// base URL without a trailing slash.
func (s *Server) Start(ctx context.Context) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	l, err := standin.Listen(ctx, s.opts.Addr, s.handler)
	if err != nil {
		cancel()
		return "", fmt.Errorf("start jenkins stand-in: %w", err)
	}
	s.background.Start(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop, s.base = cancel, l.URL
	return l.URL, nil
}

// Close stops the listener and the promotions and waits for those under way.
func (s *Server) Close() {
	s.mu.Lock()
	stop := s.stop
	s.mu.Unlock()
	stop()
	s.background.Wait()
}

// Behave changes the behaviour from now on.
func (s *Server) Behave(b Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behaviour = b
}

// AddJob adds a job by its path, folders included: "Armada-Microservices/armada-ops".
func (s *Server) AddJob(path string, processes ...Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := &job{path: path}
	for _, p := range processes {
		j.processes = append(j.processes, &process{Process: p})
	}
	s.jobs = append(s.jobs, j)
}

// AddBuild adds a finished build to a job and returns it complete.
func (s *Server) AddBuild(path string, b Build) (Build, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.job(path)
	if j == nil {
		return Build{}, fmt.Errorf("add build: no job %q", path)
	}
	last := 0
	if n := len(j.builds); n > 0 {
		last = j.builds[n-1].Number
	}
	if b.Number == 0 {
		b.Number = last + 1
	}
	if b.Number <= last {
		return Build{}, fmt.Errorf("add build %d to %s: the last is %d", b.Number, path, last)
	}
	if b.DisplayName == "" {
		b.DisplayName = fmt.Sprintf("#%d", b.Number)
	}
	if b.Result == "" {
		b.Result = Success
	}
	if b.StartedAt.IsZero() {
		b.StartedAt = s.opts.Clock.Now()
	}
	j.builds = append(j.builds, &build{Build: b})
	return b, nil
}

// Attempts returns all attempts in the order in which they were asked for, those
// in the queue included.
func (s *Server) Attempts() []Attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Attempt, len(s.attempts))
	for n, a := range s.attempts {
		list[n] = *a
	}
	return list
}

// AttemptsOn returns the attempts of a job on a carrier, which is the process's
// name.
func (s *Server) AttemptsOn(job, carrier string) []Attempt {
	return slices.DeleteFunc(s.Attempts(), func(a Attempt) bool { return a.Job != job || a.Process != carrier })
}

// Requests returns the requests so far, in order, those that a fault hit
// included.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// WaitFor returns when cond is true. It asks at once and after every change of
// an attempt; cond may call any method of the server. The error is the context's.
func (s *Server) WaitFor(ctx context.Context, cond func() bool) error {
	return s.changes.WaitFor(ctx, cond)
}

func (s *Server) job(path string) *job {
	for _, j := range s.jobs {
		if j.path == path {
			return j
		}
	}
	return nil
}

func (s *Server) isFolder(path string) bool {
	return slices.ContainsFunc(s.jobs, func(j *job) bool { return strings.HasPrefix(j.path, path+"/") })
}

func (j *job) process(name string) *process {
	for _, p := range j.processes {
		if p.Name == name {
			return p
		}
	}
	return nil
}

func (j *job) build(number int) *build {
	for _, b := range j.builds {
		if b.Number == number {
			return b
		}
	}
	return nil
}

// of returns the build's entry for a process, or nil when it never qualified.
func (b *build) of(p *process) *promotion {
	for _, pr := range b.promotions {
		if pr.process == p {
			return pr
		}
	}
	return nil
}
