package playbook

// Target is what a run repairs: one DaemonSet of one carrier.
type Target struct {
	Carrier   string `json:"carrier"`
	Namespace string `json:"namespace"`
	DaemonSet string `json:"daemonset"`
}

// String is the target's key: it is unique, and the same in logs, leases and the database.
func (t Target) String() string {
	return t.Carrier + "/" + t.Namespace + "/" + t.DaemonSet
}
