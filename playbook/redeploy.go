package playbook

import (
	"fmt"
	"strings"
	"time"
)

func (s *situation) namespaceGone() bool {
	ns, ok := s.o.Namespace.Get()
	return ok && (!ns.Exists || ns.Terminating)
}

// onPurpose says why the absent DaemonSet looks deleted on purpose, or nothing (design.md, finding absent).
func (s *situation) onPurpose() string {
	if s.d.Finding != FindingAbsent {
		return ""
	}
	if promo, ok := s.o.Promotion.Get(); ok && promo.Version == "" {
		return "it looks deleted on purpose: " + orElse(promo.Source, "the version source") + " names no version of " +
			orElse(promo.Component, "its component") + " for this carrier any more"
	}
	for _, in := range s.openIncidents() {
		facts, _ := s.o.Incidents[in.ID].Get()
		for _, a := range facts.Acts {
			if a.Kind == ActOnPurpose {
				return orElse(a.Who, "a person") + " wrote on the incident that it was deleted on purpose"
			}
		}
	}
	if last := s.ledger.LastSeen; last != nil && len(last.Owners) > 0 {
		return "it looks deleted on purpose: it was owned by " + strings.Join(last.Owners, ", ")
	}
	if last := s.ledger.LastSeen; last != nil && last.GitOps != "" {
		return "it looks deleted on purpose: it belonged to " + last.GitOps
	}
	return ""
}

func (s *situation) noBuild() bool {
	promo, ok := s.o.Promotion.Get()
	return ok && promo.Version != "" && promo.Build == 0
}

func (s *situation) promoteReservations() []Reservation {
	return []Reservation{s.claim(), {Scope: ScopePromotion, Key: s.r.Target.Carrier + "/" + s.p.DaemonSet.Promotion, Amount: 1,
		Limit: s.p.Limits.PromotionsPer6h, Window: 6 * time.Hour}}
}

// promotes are the run's promotions, without those that are proven never to have been sent: they may be promised again.
func (s *situation) promotes() []Intent {
	var out []Intent
	for _, i := range s.intents(KindPromote) {
		if i.Result != NotHappened || !i.SentAt.IsZero() {
			out = append(out, i)
		}
	}
	return out
}

// promotionSpent says why the component is not promoted again, or nothing. One run promotes once, whatever came of it.
func (s *situation) promotionSpent() Refusal {
	if len(s.promotes()) > 0 {
		return refuse(RefusedByRepeat, "the DaemonSet is absent again though its component was promoted in this run")
	}
	for _, r := range s.promoteReservations() {
		if !r.Held() && !s.fits(r) {
			return refuse(RefusedByBudget, "the DaemonSet is absent, and %s was promoted to this carrier %s within %s, which is the limit",
				s.p.DaemonSet.Promotion, count(s.used(r), "time"), short(r.Window))
		}
	}
	return Refusal{}
}

// promotionFailure says that the promotion can not bring the DaemonSet back, or nothing.
func (s *situation) promotionFailure() string {
	last := lastOf(s.promotes())
	if last == nil || last.Open() {
		return ""
	}
	ask, _ := last.Action.(Promote)
	switch last.Result {
	case NotHappened:
		return "whether the promotion was started is not known and no new attempt was seen; it is never sent again"
	case Refused:
		return "Jenkins refused the promotion: " + orElse(last.Detail, "no reason given")
	case Happened, Superseded:
	}
	if a, ok := s.attempt(ask); ok && !a.Building && a.Result != "" && a.Result != "SUCCESS" {
		return fmt.Sprintf("promotion %d of build %d ended as %s (%s)", a.Number, ask.Build, a.Result, a.URL)
	}
	return ""
}

// attempt finds our attempt: the first one newer than the newest that was known before the call.
func (s *situation) attempt(ask Promote) (Attempt, bool) {
	promo, _ := s.o.Promotion.Get()
	for _, a := range promo.Attempts {
		if a.Number > ask.Before {
			return a, true
		}
	}
	return Attempt{}, false
}

func (s *situation) redeployed() bool {
	last := lastOf(s.promotes())
	if last == nil || last.Open() {
		// Somebody else brought it back before the promotion was sent.
		return last == nil && s.o.DaemonSet.IsKnown() && s.ds().Exists
	}
	ask, _ := last.Action.(Promote)
	a, ok := s.attempt(ask)
	if !ok || a.Building || a.Result != "SUCCESS" || !s.o.DaemonSet.IsKnown() || !s.ds().Exists {
		return false
	}
	return true
}

func (s *situation) stepRedeploy() {
	s.want(Want{Kind: WantPromotion})
	promo, ok := s.o.Promotion.Get()
	if len(s.promotes()) > 0 {
		return
	}
	if !ok || s.changing() || s.blindToChange() != "" || s.refusal().Refuses() || promo.Build == 0 || s.ds().Exists {
		return
	}
	s.promise(s.promotion(promo), 0, s.promoteReservations()...)
}

func (s *situation) promotion(promo Promotion) Promote {
	before := 0
	for _, a := range promo.Attempts {
		before = max(before, a.Number)
	}
	return Promote{Component: promo.Component, Carrier: s.r.Target.Carrier, Version: promo.Version, Build: promo.Build, Before: before}
}
