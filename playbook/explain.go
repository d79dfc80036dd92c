package playbook

import (
	"maps"
	"slices"
	"strings"
)

// Explain puts every question of a diagnosis, in order, to what a look saw and what the run remembered before it, and says what
// would turn each answer around. That is not a fixed text: a fact is changed, the diagnosis is made again, and only a
// change that does turn the answer is told, with the finding that it leads to. It is pure. It makes a few dozen diagnoses, so it
// is for a person who asks, not for each tick.
func Explain(p Policy, o Observation, m Memory) []Question {
	w := world{p: p, o: o, sightings: m.Sightings, skipped: m.Skipped}
	now := w.examine().ask()
	list := now.Questions
	for i := range list {
		if f, ok := w.flip(i); ok {
			list[i].Flip = f.text(now)
		} else {
			list[i].Flip = NoFlip
		}
	}
	return list
}

// ExplainTick is Explain for the stored tick n of a run. The answers are those that were given then; a flip is found by this
// program's rules, and where these answer otherwise than then, the flip that was stored stays, or says so.
func ExplainTick(r StoredRun, n int) []Question {
	t := r.Ticks[n]
	list := slices.Clone(t.Diagnosis.Questions)
	was := t.RunBefore(r.Run)
	d := Decide(t.Policy, was, t.Observation)
	m := was.Memory
	m.Skipped = d.Memory.Skipped
	now := Explain(t.Policy, t.Observation, m)
	for i, q := range list {
		switch {
		case i < len(now) && now[i].Finding == q.Finding && now[i].Answer == q.Answer:
			list[i].Flip = now[i].Flip
		case q.Flip == "":
			list[i].Flip = "this program answers otherwise: replay shows what it decides"
		}
	}
	// What is missing may be no reading of the carrier, see unblind.
	if s := newSituation(t.Policy, was, t.Observation); s.blind != "" && t.Finding == FindingUnknown && t.Diagnosis.Why == s.blind && len(list) > 0 {
		then := Decide(t.Policy, was, s.sighted())
		list[0].Answer, list[0].Saw = Yes, s.blind
		list[0].Flip = "it can be read: then " + string(then.Diagnosis.Finding)
	}
	return list
}

// sighted is the observation with what a decision can not do without: an incident that could not be read is open and nobody's.
func (s *situation) sighted() Observation {
	o := s.o
	if !s.ledgerKnown {
		o.Ledger = Known(LedgerFacts{})
	}
	o.Incidents = maps.Clone(o.Incidents)
	if o.Incidents == nil {
		o.Incidents = map[string]Reading[Incident]{}
	}
	for _, in := range s.openIncidents() {
		if !o.Incidents[in.ID].IsKnown() {
			o.Incidents[in.ID] = Known(Incident{ID: in.ID, Number: in.Number, Title: in.Title, Status: Triggered})
		}
	}
	return o
}

// NoFlip is a flip that was not found. No test has met one.
const NoFlip = "no change of what was read that is known here"

// Decisive is the question whose answer is the finding: the first that was answered with yes. There is none where nothing could
// be asked.
func Decisive(list []Question) (Question, bool) {
	if i := decisive(list); i < len(list) {
		return list[i], true
	}
	return Question{}, false
}

func decisive(list []Question) int {
	for i, q := range list {
		if q.Answer == Yes {
			return i
		}
	}
	return len(list)
}

// world is all that a diagnosis is made from.
type world struct {
	p         Policy
	o         Observation
	sightings Sightings
	skipped   map[string]string
}

func (w world) examine() *examination { return examine(w.p, w.o, w.sightings, w.skipped) }

// supposition is one fact that could be otherwise. make must not touch what it shares with the world that was.
type supposition struct {
	fact string
	make func(*world)
}

// way is a list of suppositions that are made one after the other until the answer has turned.
type way []supposition

// flip is a way that was gone.
type flip struct {
	facts []string
	world world
	then  Diagnosis
}

// flip finds the first way that turns the answer to question i, without the changes that it can do without.
func (w world) flip(i int) (flip, bool) {
	d := w.examine()
	was := d.ask().Questions[i].Answer
	turned := func(f flip) bool { return (f.then.Questions[i].Answer == Yes) != (was == Yes) }
	for _, way := range w.ways(d, i, was) {
		for n := range way {
			if !turned(w.with(way[:n+1])) {
				continue
			}
			needed := slices.Clone(way[:n+1])
			for at := 0; at < len(needed) && len(needed) > 1; {
				if fewer := slices.Delete(slices.Clone(needed), at, at+1); turned(w.with(fewer)) {
					needed = fewer
				} else {
					at++
				}
			}
			return w.with(needed), true
		}
	}
	return flip{}, false
}

// ways are those of question i. Where there is no live DaemonSet, a question about its nodes is asked of a carrier on which there
// is one.
func (w world) ways(d *examination, i int, was Answer) []way {
	questions := d.questions()
	if d.present() || i <= questionAbsent {
		return questions[i].ways(was)
	}
	back := d.restored()
	alive := w.with(way{back}).world.examine()
	ways := []way{{back}}
	for _, further := range alive.questions()[i].ways(alive.ask().Questions[i].Answer) {
		ways = append(ways, append(way{back}, further...))
	}
	return ways
}

// questionAbsent is the last of the questions that need no live DaemonSet.
const questionAbsent = 2

func (w world) with(changes way) flip {
	var f flip
	for _, c := range changes {
		c.make(&w)
		f.facts = append(f.facts, c.fact)
	}
	f.world, f.then = w, w.examine().ask()
	return f
}

// text says what would have to be otherwise, and what the finding were then.
func (f flip) text(now Diagnosis) string {
	then := "then " + string(f.then.Finding)
	switch {
	case decisive(f.then.Questions) == decisive(now.Questions):
		then = "still " + string(f.then.Finding)
	case f.then.Finding == now.Finding:
		then += ", for another reason"
	}
	return strings.Join(f.facts, ", and ") + ": " + then
}
