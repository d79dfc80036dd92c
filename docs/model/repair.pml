/*
 * Two workers repair one DaemonSet of one node, and each may die, or be paused for so long that the other takes over, at
 * any moment. A person cordons the node and another one edits the DaemonSet, whenever they like, or do not.
 *
 * What protects the carrier is switched off one by one with -D: NO_PRECONDITIONS, NO_TOUCH, NO_INTENT, NO_OWNER, NO_BACKUP.
 * README.md says what stands for what, and what is left out.
 */

#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef STEALS
#define STEALS 1
#endif
#define WORKERS 2

mtype = { none, cordon, delete, create, uncordon }      /* actions */
mtype = { happened, not_happened, superseded }          /* results */
mtype = { draining, reapplying, unwinding, ended }      /* states of the run */

/* The carrier. */
bool cordoned, foreign          /* foreign: the cordon is a person's */
bool marked                     /* the node bears our run's mark */
byte nodeVersion = 1
bool exists = true
byte uid = 1, version = 1
bit content                     /* 1: with the person's edit */

/* The ledger: the lease, the run, its open intent and what it owes. Who took the lease last stands for its generation: a
 * worker that was taken over, or that died and came back, is not the last any more until it has taken it again. */
byte holder, last
mtype state = draining
mtype open = none
byte openUid
bool owesUncordon, owesCreate
bit backup

/* Bounds, and what the judge has to know. */
byte crashes, steals, over
bool edited

/* A crash loses everything that the worker knows; its lease runs out. */
#define MAY_CRASH \
	if \
	:: atomic { crashes < CRASHES -> crashes++; if :: last == me -> holder = 0 :: else fi; remembers = false; goto again } \
	:: skip \
	fi

inline settle(action, r) {
	open = none; openUid = 0;
	if
	:: action == cordon && r != happened -> owesUncordon = false
	:: action == delete && r != happened -> owesCreate = false; backup = 0
#ifdef NO_INTENT
	:: action == cordon && r == happened -> owesUncordon = true
	:: action == delete && r == happened -> owesCreate = true; backup = copy
#endif
	:: action == create && r != not_happened -> owesCreate = false; backup = 0; if :: state == reapplying -> state = unwinding :: else fi
	:: action == uncordon && r != not_happened -> owesUncordon = false
	:: else
	fi;
	if
	:: action == cordon && state == draining -> state = (r == happened -> reapplying : draining)
	:: else
	fi
}

proctype worker(byte me) {
	byte seenVersion, seenUid;
	mtype kind, result;
	bit copy;
	bool remembers;         /* it made the copy itself and has lived since */

again:
	atomic { kind = none; result = superseded; seenVersion = 0; seenUid = 0; if :: !remembers -> copy = 0 :: else fi };
	/* The lease: it is free, or its holder has been silent for too long. */
	atomic {
		if
		:: state == ended -> copy = 0; remembers = false; goto done
		:: state != ended && holder == 0 -> skip
		:: state != ended && holder != 0 && holder != me && steals < STEALS -> steals++
		fi;
		holder = me; last = me
	}

	/* Recover: an intent that somebody promised and did not settle. Touch first, then look. */
	if
	:: open != none ->
#ifndef NO_TOUCH
		atomic {
			if
			:: open == cordon || open == uncordon -> nodeVersion++
			:: open == delete && exists -> version++
			:: else
			fi
		};
		MAY_CRASH;
#endif
		atomic {
			if
			:: open == cordon -> result = (marked -> happened : not_happened)
			:: open == uncordon -> result = (marked -> not_happened : happened)
			:: open == delete -> result = ((!exists || uid != openUid) -> happened : not_happened)
			:: open == create -> result = ((exists && uid != openUid) -> happened : not_happened)
			:: else -> result = superseded /* another one has settled it; the write below is refused */
			fi
		};
		MAY_CRASH;
		atomic {
			if
			:: last == me -> kind = open; settle(kind, result); kind = none
			:: else -> goto again
			fi
		}
	:: else
	fi;

	/* Observe, and decide. */
	atomic {
		if
		:: owesCreate -> kind = create; seenUid = uid;
			copy = backup;
#ifdef NO_BACKUP
			if :: !remembers -> copy = 0 :: else fi /* what was once deployed is all that anybody has */
#endif
		:: !owesCreate && state == draining && !owesUncordon ->
			if
#ifndef NO_OWNER
			:: cordoned -> state = (last == me -> unwinding : state) /* a person's: hand over */
			:: !cordoned -> kind = cordon; seenVersion = nodeVersion
#else
			:: kind = cordon; seenVersion = nodeVersion
#endif
			:: state = (last == me -> unwinding : state) /* no longer needed */
			fi
		:: !owesCreate && state == reapplying ->
			if
			:: exists -> kind = delete; seenVersion = version; seenUid = uid; copy = content; remembers = true
			:: !exists -> state = (last == me -> unwinding : state)
			:: state = (last == me -> unwinding : state) /* no longer needed */
			fi
		:: !owesCreate && state == unwinding && owesUncordon -> kind = uncordon
		:: !owesCreate && state == unwinding && !owesUncordon -> state = (last == me -> ended : state)
		:: else
		fi
	};
	if
	:: kind == none -> goto release
	:: else
	fi;
	MAY_CRASH;

	/* Promise: the intent, what it owes and the backup, in one transaction under the lease. */
	atomic {
		if
		:: last == me && open == none
		:: else -> goto again
		fi;
#ifndef NO_INTENT
		open = kind; openUid = seenUid;
		if
		:: kind == cordon -> owesUncordon = true
		:: kind == delete -> owesCreate = true; backup = copy
		:: else
		fi
#endif
	};
	MAY_CRASH;

	/* The call. A paused worker comes here whenever it wakes up; nothing but the carrier itself can stop it. */
	atomic {
		result = superseded;
		if
		:: kind == cordon ->
			if
#ifndef NO_PRECONDITIONS
			:: nodeVersion != seenVersion
			:: nodeVersion == seenVersion
#else
			:: true
#endif
			-> cordoned = true; marked = true; nodeVersion++; result = happened
			fi
		:: kind == uncordon ->
			if
#ifndef NO_OWNER
			:: !marked
			:: marked
#else
			:: true
#endif
			-> assert(!(foreign && cordoned)); cordoned = false; marked = false; nodeVersion++; result = happened
			fi
		:: kind == delete ->
			if
#ifndef NO_PRECONDITIONS
			:: !(exists && uid == seenUid && version == seenVersion)
			:: exists && uid == seenUid && version == seenVersion
#else
			:: !exists
			:: exists
#endif
			-> exists = false; result = happened
			fi
		:: kind == create ->
			if
			:: exists
			:: !exists -> exists = true; uid++; version++; content = copy; result = happened
			fi
		fi
	};
	MAY_CRASH;

	/* Settle, under the lease. */
	atomic {
		if
		:: last == me -> settle(kind, result)
		:: else -> goto again
		fi
	};

release:
	atomic {
		if
		:: last == me -> holder = 0
		:: else
		fi
	};
	goto again;
done:
	over++
}

proctype cordoner() {
	if
	:: atomic { !cordoned -> cordoned = true; foreign = true; nodeVersion++ }
	:: skip
	fi;
	over++
}

proctype editor() {
	if
	:: atomic { exists -> content = 1; edited = true; version++ }
	:: skip
	fi;
	over++
}

/* When everybody is done, so is everything that was promised. */
init {
	atomic { run worker(1); run worker(2); run cordoner(); run editor() };
	over == WORKERS + 2;
	assert(exists);                 /* I1 */
	assert(!marked);                /* I2 */
	assert(cordoned == foreign);    /* I2, I3 */
	assert(!edited || content == 1) /* I4 */
}
