// Package playbooktest is the world in which the core is tested: a simulated carrier, PagerDuty and promotion service,
// and an in-memory ledger, all on one virtual clock.
//
// Nothing here sleeps and nothing is random: a run that takes 45 minutes on a carrier takes milliseconds here, and the
// same scenario gives the same night every time. That makes two things possible that a real carrier does not allow:
//
//   - the crash sweep: a scenario is played once to count its external calls, and then once for each call and each way to
//     fail there: the worker dies before the call or after it, or is paused so that the call lands late, when a successor
//     has taken over, or the call answers with an error though it did its work. After each of them the invariants (I1 to
//     I9 of the design) must hold and the night must come to the end that the scenario names. The deaths are swept here;
//     package sweep plays the rest, pairs of failures, and crowds: people, remotes and failures at random, by seed;
//   - the mutants (package mutants): the sweep must fail when one of the product's protections is taken out.
//
// The simulated carrier obeys the rules on which those protections rely, as they were measured on a real control plane:
// preconditions, finalizers and asynchronous garbage collection, the DaemonSet controller's idea of adoption and of an
// updated pod, eviction budgets, and the scheduler's pod limit. client-go's fake obeys none of them.
//
// LedgerTest is the conformance suite of playbook.Ledger: the ledger of this package and the one on Postgres pass it.
package playbooktest
