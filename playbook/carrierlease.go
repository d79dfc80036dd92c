package playbook

// Where a carrier keeps the Lease that names the installation which may act on it.
const (
	LeaseNamespace = "kube-system"
	LeaseName      = "drydock"
)

// Count is how many changes of a carrier one database has promised. It is kept in the ledger and written on the carrier's
// Lease before each change, so that a database that is behind the carrier (a restored copy) can be told: its number is lower,
// or, when both copies went on from the same one, its token differs.
type Count struct {
	Number int64 `json:"number"`
	// Token is drawn anew each time the number rises.
	Token string `json:"token,omitempty"`
}

// CarrierLease is what the Lease kube-system/drydock on a carrier says. The zero value is a Lease that nobody has written.
type CarrierLease struct {
	// Holder is the one installation that may act on the carrier; empty: none has yet.
	Holder string `json:"holder,omitempty"`
	Count  Count  `json:"count,omitzero"`
	// Denied is the right that Drydock lacks on the Lease, in the API server's words; empty: none.
	Denied string `json:"denied,omitempty"`
}

// Refusal says why an installation with this count may not act on the carrier, or nothing. A person reads it, so it says
// what to do.
func (l CarrierLease) Refusal(carrier, installation string, kept Count) Refusal {
	switch {
	case l.Denied != "":
		return refuse(RefusedByRights, "Drydock may not keep the Lease %s/%s on the carrier, which names who acts there: %s (%s)",
			LeaseNamespace, LeaseName, l.Denied, howToGrant(carrier))
	case l.Holder == "":
		return Refusal{}
	case l.Holder != installation:
		return refuse(RefusedByOther, "another installation of Drydock (%s; this one is %s) acts on the carrier: its Lease %s/%s says so. "+
			"When that one is gone for good, an admin hands the carrier over with: drydock carriers confirm %s", l.Holder, installation,
			LeaseNamespace, LeaseName, carrier)
	case l.Count.Number > kept.Number, l.Count.Number == kept.Number && l.Count.Token != kept.Token:
		return refuse(RefusedByStale, "the database is behind the carrier, as a restored copy is: the Lease %s/%s there counts %d changes, "+
			"the database knows %d. Nothing is changed or put back on the carrier until an admin has looked at it and runs: drydock carriers confirm %s",
			LeaseNamespace, LeaseName, l.Count.Number, kept.Number, carrier)
	}
	return Refusal{}
}

// leaseRefusal says why this installation may not change the carrier, by its Lease; or nothing. A Lease that was not asked
// for, as in a plan, refuses nothing: the engine reads it afresh before each change.
func (s *situation) leaseRefusal() Refusal {
	l, ok := s.o.Lease.Get()
	if !ok || !s.ledgerKnown {
		return Refusal{}
	}
	return l.Refusal(s.r.Target.Carrier, s.p.Installation, s.ledger.Count)
}

// stale reports whether the ledger itself is behind the carrier. Then not even an undo is made: the obligations that it
// remembers may be those of a run that the true ledger is working on, or has ended long ago.
func (s *situation) stale() bool {
	if s.o.Lease.IsUnknown() {
		return s.r.foundStale()
	}
	return s.leaseRefusal().Name == RefusedByStale
}

// foundStale reports whether the run stopped because the ledger is behind: that stays so while the Lease can not be read.
func (r Run) foundStale() bool {
	return r.Memory.Ending != nil && r.Memory.Ending.Refusal == RefusedByStale
}

// blindToChange names a reading without which no change may be made; empty when all are there.
func (s *situation) blindToChange() string {
	if s.blind == "" && s.o.Lease.IsUnknown() {
		return "the carrier's Lease " + LeaseNamespace + "/" + LeaseName + " could not be read: " + s.o.Lease.Why()
	}
	return s.blind
}
