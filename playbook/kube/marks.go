package kube

import (
	"context"

	"github.com/drydock/drydock/playbook"
)

// MarkedNode is a node that bears a cordon mark, whoever wrote it.
type MarkedNode struct {
	Name          string
	UID           string
	Mark          playbook.Mark
	Unschedulable bool
}

// Marked lists the nodes that bear a cordon mark: what a janitor compares with the ledger.
func (c *Carrier) Marked(ctx context.Context) ([]MarkedNode, error) {
	nodes, err := c.listNodes(ctx)
	if err != nil {
		return nil, err
	}
	var marked []MarkedNode
	for i := range nodes {
		if mark := markOf(&nodes[i]); mark != nil {
			marked = append(marked, MarkedNode{Name: nodes[i].Name, UID: string(nodes[i].UID), Mark: *mark,
				Unschedulable: nodes[i].Spec.Unschedulable})
		}
	}
	return marked, nil
}
