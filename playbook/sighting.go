package playbook

import "time"

// MaxGap is the longest pause between two looks that still counts as watching. After a longer one a sighting starts again.
const MaxGap = 30 * time.Second

// Sighting is the run's memory of one claim.
type Sighting struct {
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Count int       `json:"count"`
}

// Sightings is the memory of every claim that still stands, by its key ("absent", "node_full/worker-7").
type Sightings map[string]Sighting

// claims is what one look says: true, false (not listed), or unknown.
type claims struct {
	yes     map[string]bool
	unknown func(key string) bool
}

// fold returns the sightings after a look that began at time now and had read everything by seenAt. A claim begins when it
// was surely true and lasts until it was surely true: a slow look never makes a soak longer than it was. A claim that holds is extended, or starts again after a gap; one
// that does not hold is dropped; one that is unknown is kept as it was, neither extended nor dropped.
func (s Sightings) fold(now, seenAt time.Time, c claims) Sightings {
	next := make(Sightings, len(c.yes))
	for key := range c.yes {
		prev, seen := s[key]
		switch {
		case !seen || now.Sub(prev.Last) > MaxGap:
			next[key] = Sighting{First: seenAt, Last: now, Count: 1}
		case !now.After(prev.Last):
			next[key] = prev // the same look decided again: it counts once
		default:
			next[key] = Sighting{First: prev.First, Last: now, Count: prev.Count + 1}
		}
	}
	for key, prev := range s {
		if _, held := next[key]; !held && c.unknown != nil && c.unknown(key) {
			next[key] = prev
		}
	}
	return next
}

// held reports whether the claim has been seen over at least d and in at least n looks.
func (s Sightings) held(key string, d time.Duration, n int) bool {
	g, ok := s[key]
	return ok && g.Count >= n && g.Last.Sub(g.First) >= d
}
