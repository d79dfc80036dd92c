package playbook

import "fmt"

// Refusal is why something is not done, by a protection of ours: its name for metrics, its sentence for people. The zero
// Refusal refuses nothing.
type Refusal struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// The names of refusals.
const (
	RefusedByMode      = "mode_observe"
	RefusedByBreaker   = "breaker"
	RefusedByFlapping  = "flapping"
	RefusedByCoolDown  = "cool_down"
	RefusedBySystem    = "systemic"
	RefusedByDeadline  = "deadline"
	RefusedBySelector  = "empty_selector"
	RefusedByShare     = "missing_nodes"
	RefusedByNamespace = "drain_namespaces"
	RefusedByCordon    = "foreign_cordon"
	RefusedByNeed      = "evictions_per_node"
	RefusedByPods      = "pods_not_movable"
	RefusedByBudget    = "budget"
	RefusedByConfig    = "configuration"
	RefusedByOwner     = "owned_elsewhere"
	RefusedByFinalizer = "finalizers"
	RefusedByRepeat    = "already_tried"
	RefusedByProof     = "no_proof"
	RefusedByReapply   = "reapply_rights"
	RefusedByDryRun    = "dry_run"
	RefusedByKill      = "kill_switch"
	RefusedByRights    = "lease_rights"
	RefusedByOther     = "other_installation"
	RefusedByStale     = "stale_database"
)

// Refusals lists every name, for metrics and docs.
func Refusals() []string {
	return []string{RefusedByMode, RefusedByBreaker, RefusedByFlapping, RefusedByCoolDown, RefusedBySystem, RefusedByDeadline, RefusedBySelector,
		RefusedByShare, RefusedByNamespace, RefusedByCordon, RefusedByNeed, RefusedByPods, RefusedByBudget, RefusedByConfig,
		RefusedByOwner, RefusedByFinalizer, RefusedByRepeat, RefusedByProof, RefusedByReapply, RefusedByDryRun, RefusedByKill,
		RefusedByRights, RefusedByOther, RefusedByStale}
}

// NotGranted says for people that the API server denies Drydock a right on the carrier ("patch nodes"), and what to do.
func NotGranted(carrier, right string) string {
	return "Drydock lacks the right to " + right + " (" + howToGrant(carrier) + ")"
}

func howToGrant(carrier string) string {
	return fmt.Sprintf("\"drydock doctor --grants %s\" prints what to apply", carrier)
}

func refuse(name, format string, args ...any) Refusal {
	return Refusal{Name: name, Why: fmt.Sprintf(format, args...)}
}

// Refuses reports whether there is a refusal.
func (r Refusal) Refuses() bool { return r.Name != "" }

// or returns r, or the other one when r refuses nothing.
func (r Refusal) or(other Refusal) Refusal {
	if r.Refuses() {
		return r
	}
	return other
}
