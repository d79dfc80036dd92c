package playbook

import "context"

// Step is a part of a tick that takes time.
type Step struct {
	Name StepName
	Run  string
	// Of a call: the intent that is sent.
	Kind   Kind
	Seq    int
	Object string
}

// StepName names a step of a tick.
type StepName string

// The steps. StepTick is the whole tick, and the others lie within it; a step that has nothing to do does not appear.
const (
	StepTick      StepName = "tick"
	StepRecover   StepName = "recover"   // what earlier ticks promised and did not settle
	StepObserve   StepName = "observe"   // the ledger's facts and the carrier
	StepIncidents StepName = "incidents" // within observe, and before something is promised
	StepRead      StepName = "read"      // what the decision wants beyond that
	StepPromise   StepName = "promise"   // the commit
	StepCall      StepName = "call"      // one intent's call
)

// StepNames lists all steps, for metrics.
func StepNames() []StepName {
	return []StepName{StepTick, StepRecover, StepObserve, StepIncidents, StepRead, StepPromise, StepCall}
}

// Watch is told when a step begins. What it returns is the context under which the step is made, derived from the given one,
// and a function that is called once at the step's end, with what came of it (the state of a promise, the result of a call).
type Watch func(ctx context.Context, s Step) (context.Context, func(came string, err error))

func (w Watch) begin(ctx context.Context, s Step) (context.Context, func(string, error)) {
	if w == nil {
		return ctx, func(string, error) {}
	}
	return w(ctx, s)
}

func (t *tick) watch(ctx context.Context, s Step) (context.Context, func(string, error)) {
	s.Run = t.run.ID
	return t.e.Watch.begin(ctx, s)
}
