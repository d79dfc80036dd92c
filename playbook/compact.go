package playbook

// Compact returns the observation as it is stored: a healthy node is only a name. Diagnosing the compacted observation
// gives the same finding and the same missing nodes as diagnosing the whole one.
func (o Observation) Compact() Observation {
	nodes, ok := o.Nodes.Get()
	if !ok {
		return o
	}
	kept := make([]Node, 0, len(nodes))
	covered := append([]string(nil), o.Covered...)
	for i := range nodes {
		n := &nodes[i]
		if n.Expected && !n.Leaving && n.Ready && hasReadyPod(n) && !n.Unschedulable && n.CordonedBy == nil && !n.DiskPressure {
			covered = append(covered, n.Name)
			continue
		}
		kept = append(kept, *n)
	}
	o.Nodes = Known(kept)
	o.Covered = covered
	return o
}
