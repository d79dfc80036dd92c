package playbook

// Classify says whether a promised call on a carrier happened, from a fresh read of its object that was made after the
// object was touched (or after the call's own deadline), so that nothing of that call can still be on its way.
func Classify(i Intent, run string, st ObjectState) Settlement {
	ref := i.Action.Target()
	other := !st.Exists || (st.UID != ref.UID && ref.UID != "")
	switch a := i.Action.(type) {
	case Cordon:
		switch {
		case other:
			return Settlement{Result: Superseded, Detail: "the node is gone"}
		case st.Mark != nil && st.Mark.Run == run:
			// Cordon and mark come in one write. A person's uncordon since then leaves the mark, which is still ours to take off.
			return Settlement{Result: Happened, Detail: "found our mark"}
		}
		return Settlement{Result: NotHappened, Detail: "the node does not bear our cordon"}
	case Uncordon:
		switch {
		case other:
			return Settlement{Result: Superseded, Detail: "the node is gone"}
		case st.Mark != nil && st.Mark.Run == a.Run:
			return Settlement{Result: NotHappened, Detail: "the node still bears our cordon"}
		}
		return Settlement{Result: Happened, Detail: "our cordon is gone"}
	case Evict:
		if other || st.Deleting {
			return Settlement{Result: Happened, Detail: "the pod is gone or leaving"}
		}
		return Settlement{Result: NotHappened, Detail: "the pod is still there"}
	case OrphanDelete:
		if other || st.Deleting {
			return Settlement{Result: Happened, Detail: "the old object is gone or deleting"}
		}
		return Settlement{Result: NotHappened, Detail: "the old object is still there"}
	case Create:
		switch {
		case !st.Exists || st.UID == a.OldUID:
			return Settlement{Result: NotHappened, Detail: "there is no new object"}
		case st.BackupSHA256 == a.BackupSHA256:
			return Settlement{Result: Happened, Detail: "found the new object as in the backup"}
		}
		return Settlement{Result: Superseded, Detail: "somebody else created it"}
	case Nudge:
		if !other && st.NudgedByRun == run {
			return Settlement{Result: Happened}
		}
		return Settlement{Result: NotHappened}
	case RestartControllerManager:
		switch {
		case a.Driver != DriverDeployment:
			// It is never sent again, so it counts as one: in the budget, and against this run.
			return Settlement{Result: Happened, Detail: "what became of it is not known; it is not sent again"}
		case st.RestartedByRun == run:
			return Settlement{Result: Happened, Detail: "found our restart on the Deployment"}
		}
		return Settlement{Result: NotHappened, Detail: "the Deployment does not bear our restart"}
	case Promote, Annotate, Acknowledge, Escalate, Resolve:
	}
	// These are recovered by their own remotes.
	return Settlement{Result: Superseded, Detail: "what became of it is not known"}
}

// touchable reports whether the object of an action can be touched, so that a paused worker's preconditions go stale.
func touchable(a Action) bool {
	switch a := a.(type) {
	case Cordon, Uncordon, OrphanDelete, Nudge:
		return true
	case RestartControllerManager:
		return a.Driver == DriverDeployment
	case Evict, Create, Promote, Annotate, Acknowledge, Escalate, Resolve:
	}
	return false
}
