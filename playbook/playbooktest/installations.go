package playbooktest

import (
	"context"
	"time"

	"github.com/drydock/drydock/playbook"
)

// ahead is a count that the scenarios' ledger has never reached: another copy of the database has gone on.
var ahead = playbook.Count{Number: 90, Token: "another copy"}

// installations are nights on which the carrier's Lease names somebody else, or the ledger is not what it seems.
func installations() []Scenario {
	return []Scenario{
		{
			Name:  "another installation acts on the carrier",
			Setup: func(w *World) { full(w, "worker-1").TakenBy("laptop", playbook.Count{}) },
			Ends:  handedOver(playbook.FindingNodeFull, "drydock carriers confirm"),
		},
		{
			Name:  "another installation takes the carrier during the drain",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				c := w.Carrier(defaultCarrier)
				w.When("cordoned", marked(c, "worker-1"), func() { c.TakenBy("laptop", ahead) })
			},
			Ends: handedOver(playbook.FindingNodeFull, "another installation"), Did: givenBack,
		},
		{
			Name:  "the database is a restored copy",
			Setup: func(w *World) { full(w, "worker-1").TakenBy(installation, ahead) },
			Ends:  handedOver("", "behind the carrier"),
		},
		{
			Name:  "the database turns out to be a copy during the drain, and an admin confirms",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				c := w.Carrier(defaultCarrier)
				w.When("cordoned", marked(c, "worker-1"), func() {
					c.TakenBy(installation, ahead)
					w.Clock.After(4*time.Minute, func() { w.confirm(c) })
				})
			},
			Ends: handedOver("", "behind the carrier"), Did: givenBack,
		},
		{
			Name:  "the carrier's Lease can not be read for a while",
			Setup: func(w *World) { full(w, "worker-1").Unreadable["lease"] = "500" },
			Later: func(w *World) {
				w.Clock.After(time.Minute, func() { delete(w.Carrier(defaultCarrier).Unreadable, "lease") })
			},
			Ends: []End{repaired}, Did: drained,
		},
		{
			Name:  "the right to keep the carrier's Lease is missing",
			Setup: func(w *World) { full(w, "worker-1").mayNotLease = "it needs the right to create leases" },
			Ends:  handedOver(playbook.FindingNodeFull, "the right to create leases"),
		},
		{
			Name:  "a bug makes every tick panic during the drain",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				w.When("cordoned", marked(w.Carrier(defaultCarrier), "worker-1"), func() { w.Bug = "index out of range" })
			},
			Ends: handedOver("", "failed on this run"), Did: givenBack,
		},
	}
}

// confirm is an admin's word that this ledger is the true one.
func (w *World) confirm(c *Carrier) {
	seen := c.lease.Count.Number
	count, err := w.Ledger.ConfirmCarrier(context.Background(), c.Name, seen) //nolint:forbidigo // no call is made
	if err != nil {
		w.violate("confirm: %v", err)
	}
	c.TakenBy(installation, count)
}
