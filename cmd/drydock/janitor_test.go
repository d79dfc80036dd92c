package main

import (
	"cmp"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/playbooktest"
	"github.com/drydock/drydock/store"
)

// TestJanitorMarks: a mark of ours that no live run answers for is taken off, whatever the kill switch says, and no other.
func TestJanitorMarks(t *testing.T) {
	t.Parallel()
	const unknown = "01930000-0000-7000-8000-ffffffffffff"
	d := newTidying(t, newYard("c1", "ended", "unknown", "garbled", "late", "live", "stranger", "person", "elsewhere", "free"))
	y := d.yards["c1"]
	ended, live, late := d.begin("c1"), d.begin("c1"), d.begin("c1")
	d.cordon(ended, "c1", "ended")
	d.end(ended)
	d.cordon(live, "c1", "live")
	d.end(late) // its call landed though the ledger knows of none
	y.mark("late", playbook.Mark{Installation: ours, Carrier: "c1", Run: late})
	y.mark("unknown", playbook.Mark{Installation: ours, Carrier: "c1", Run: unknown})
	y.mark("garbled", playbook.Mark{Installation: ours, Carrier: "c1", Run: "no run\x00"})
	y.mark("stranger", playbook.Mark{Installation: "theirs", Carrier: "c1", Run: unknown})
	y.mark("elsewhere", playbook.Mark{Installation: ours, Carrier: "c2", Run: unknown})
	y.HumanCordon("person")
	if err := d.st.EngageKillSwitch(t.Context(), store.KillSwitch{Reason: "storm", By: "ops"}); err != nil {
		t.Fatal(err)
	}

	d.rounds(d.janitor, 2)
	d.wantCordoned("after two rounds", "c1", "live", "stranger", "person", "elsewhere")
	if owed := d.run(ended).Owed(); len(owed) > 0 {
		t.Errorf("the run that has ended still owes %v", owed)
	}
	if m := y.Node("live").Mark; m == nil || m.Run != live {
		t.Errorf("the live run's mark is %v", m)
	}
	d.end(live)
	d.rounds(d.janitor, 2)
	d.wantCordoned("the live run has ended", "c1", "stranger", "person", "elsewhere")
}

// TestJanitorOfARestoredDatabase leaves the carrier as it is, and pages until an admin has confirmed.
func TestJanitorOfARestoredDatabase(t *testing.T) {
	t.Parallel()
	d := newTidying(t, newYard("c1", "w1", "w2"), newYard("c2"))
	run := d.begin("c1")
	d.cordon(run, "c1", "w1")
	d.end(run)
	d.yards["c1"].mark("w2", playbook.Mark{Installation: ours, Carrier: "c1", Run: "01930000-0000-7000-8000-ffffffffffff"})
	d.yards["c1"].TakenBy(ours, playbook.Count{Number: 9, Token: "of the true one"})
	d.rounds(d.janitor, 3)
	d.wantCordoned("the database is behind", "c1", "w1", "w2")
	if n := d.yards["c1"].Touches; n > 0 {
		t.Errorf("%d touches", n)
	}
	d.wantPages("the database is behind", carrierRefusedKey, "trigger")

	second := d.replica(d.open("two/1"))
	d.rounds(second, 2)
	d.wantPages("a replica that begins", carrierRefusedKey, "trigger", "trigger")

	c, err := d.st.ConfirmCarrier(t.Context(), "c1", 9)
	if err != nil {
		t.Fatal(err)
	}
	d.yards["c1"].TakenBy(ours, c)
	d.rounds(d.janitor, 3)
	d.wantCordoned("confirmed", "c1")
	d.wantPages("confirmed", carrierRefusedKey, "trigger", "trigger", "resolve")
}

// TestJanitorForsakes: what a restored database owes from long ago is people's to create; its cordon is still taken off, also
// while DaemonSets can not be read.
func TestJanitorForsakes(t *testing.T) {
	t.Parallel()
	for _, noSets := range []string{"", "forbidden"} {
		t.Run("reading DaemonSets: "+cmp.Or(noSets, "allowed"), func(t *testing.T) {
			t.Parallel()
			d := newTidying(t, newYard("c1", "w1", "w2"))
			y := d.yards["c1"]
			y.noSets = noSets
			run := d.begin("c1")
			d.orphan(run)
			d.cordon(run, "c1", "w1")
			d.end(run)
			d.age(45*time.Minute + 61*time.Minute)
			target := d.run(run).Target

			d.tick(run, 3) // the search for marks would also find the node
			d.wantCordoned("forsaken", "c1")
			d.rounds(d.janitor, 1)
			if y.Set(target.Namespace, target.DaemonSet) != nil {
				t.Error("the DaemonSet was created")
			}
			if !d.page.open(undoBlockedKey) {
				t.Error("nobody was paged")
			}

			y.noSets = ""
			y.HumanCreate(playbooktest.DaemonSet{Namespace: target.Namespace, Name: target.DaemonSet})
			d.rounds(d.janitor, 3)
			if owed := d.run(run).Owed(); len(owed) > 0 {
				t.Errorf("a person has created it, and the run still owes %v", owed)
			}
			if d.page.open(undoBlockedKey) {
				t.Error("a person has created it, and the page is still open")
			}
		})
	}
}

// TestJanitorCreates what is owed while it is not forsaken: both times have to pass.
func TestJanitorCreates(t *testing.T) {
	t.Parallel()
	for name, age := range map[string]time.Duration{"at once": 0, "after the deadline": 45*time.Minute + 50*time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newTidying(t, newYard("c1"))
			run := d.begin("c1")
			d.orphan(run)
			d.end(run)
			d.age(age)
			target := d.run(run).Target
			d.rounds(d.janitor, 2)
			if d.yards["c1"].Set(target.Namespace, target.DaemonSet) == nil {
				t.Error("the DaemonSet was not created")
			}
			if owed := d.run(run).Owed(); len(owed) > 0 {
				t.Errorf("the run still owes %v", owed)
			}
		})
	}
}

// TestJanitorPages: once when an undo stays blocked, and again when it is done.
func TestJanitorPages(t *testing.T) {
	t.Parallel()
	d := newTidying(t, newYard("c1", "w1", "w2"))
	y := d.yards["c1"]
	run := d.begin("c1")
	d.cordon(run, "c1", "w1")
	d.rounds(d.janitor, 1)
	d.wantPages("owed by a run that goes on", undoBlockedKey, "resolve") // what a dead replica may have raised

	y.Unreachable = "no route to host"
	d.end(run)
	d.rounds(d.janitor, 2)
	d.wantPages("its run has just ended", undoBlockedKey, "resolve")
	d.age(61 * time.Second)
	d.page.refuse(true)
	d.rounds(d.janitor, 1)
	d.page.refuse(false)
	d.wantPages("the Events API refused it", undoBlockedKey, "resolve")
	d.rounds(d.janitor, 3)
	d.wantPages("a minute after its run's end", undoBlockedKey, "resolve", "trigger")

	// The replica dies, and the next one finds all done.
	y.Unreachable = ""
	second := d.replica(d.open("two/1"))
	for range 3 {
		d.rounds(second, 1)
		d.age(time.Minute) // between two tries
	}
	d.wantCordoned("the carrier is back", "c1")
	if d.page.open(undoBlockedKey) {
		t.Error("the cordon is off, and the page is still open")
	}
}

// TestJanitorReplicaTakesBack: a replica that begins when all is done takes back what a dead one raised.
func TestJanitorReplicaTakesBack(t *testing.T) {
	t.Parallel()
	d := newTidying(t, newYard("c1"))
	d.rounds(d.janitor, 3)
	d.wantPages("nothing is owed", undoBlockedKey, "resolve")
	d.wantPages("no carrier is refused", carrierRefusedKey, "resolve")
}

func TestUndoIsBlocked(t *testing.T) {
	t.Parallel()
	create, uncordon := playbook.Create{}, playbook.Uncordon{}
	for _, c := range []struct {
		name string
		owed store.OwedUndo
		want bool
	}{
		{"create, 60 s", store.OwedUndo{Action: create, Age: time.Minute}, false},
		{"create, more", store.OwedUndo{Action: create, Age: time.Minute + 1}, true},
		{"create, its run has just ended", store.OwedUndo{Action: create, Age: time.Second, Ended: true}, false},
		{"cordon, 45 min", store.OwedUndo{Action: uncordon, Age: 45 * time.Minute}, false},
		{"cordon, more", store.OwedUndo{Action: uncordon, Age: 45*time.Minute + 1}, true},
		{"cordon, 60 s after its run's end", store.OwedUndo{Action: uncordon, Age: 2 * time.Minute, Ended: true, EndedFor: time.Minute}, false},
		{"cordon, longer after it", store.OwedUndo{Action: uncordon, Age: 2 * time.Minute, Ended: true, EndedFor: time.Minute + 1}, true},
	} {
		if got := isBlocked(c.owed); got != c.want {
			t.Errorf("%s: blocked is %t", c.name, got)
		}
	}
}

// TestJanitorOfCarriersThatHang: the runs of carriers that do not answer hold up neither another's nor a search.
func TestJanitorOfCarriersThatHang(t *testing.T) {
	t.Parallel()
	d := newTidying(t, newYard("hangs", "w1"), newYard("works", "w1"))
	hangs, works := d.yards["hangs"], d.yards["works"]
	for range atOnce + 1 { // they have ended before the other, and so are listed before it
		run := d.begin("hangs")
		d.cordon(run, "hangs", "w1")
		d.end(run)
	}
	run := d.begin("works")
	d.orphan(run)
	d.end(run)
	hangs.hung = make(chan struct{})
	hangs.Unreachable = "no route to host"
	works.mark("w1", playbook.Mark{Installation: ours, Carrier: "works", Run: "01930000-0000-7000-8000-ffffffffffff"})

	d.round(t.Context())
	eventually(t, "the search of the other carrier", func() bool { return len(works.cordoned()) == 0 })
	close(hangs.hung)
	d.flying.Wait()
	d.janitor.round(t.Context()) // the carriers' turn has not come again
	d.flying.Wait()
	if target := d.run(run).Target; works.Set(target.Namespace, target.DaemonSet) == nil {
		t.Error("after two rounds the DaemonSet of the other carrier was not created")
	}
}
