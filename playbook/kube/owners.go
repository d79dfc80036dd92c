package kube

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

// ownersListed is up to how many pages of a namespace's controllers are listed to find those of the candidates. The masters
// of a full node have some thirty controllers, in one namespace, so that a list spares a request for each. On a large
// carrier the list is long, with ten old ReplicaSets for each Deployment: what is not on the first pages is read by itself.
const ownersListed = 2

// ownerKey names a controller.
type ownerKey struct{ kind, namespace, name string }

// owned is what a controller says about its replicas; uid is empty when the API server said that there is none.
type owned struct {
	name         string
	uid          types.UID
	ready, wants int
}

// readOwners fills the replicas of each candidate's controller. Each controller is read once.
func (c *Carrier) readOwners(ctx context.Context, candidates []candidate) error {
	wanted := map[ownerKey]bool{}
	for i := range candidates {
		at := &candidates[i]
		if at.facts.NotMovable != "" {
			continue
		}
		key := ownerOf(at)
		if key.kind != "ReplicaSet" && key.kind != "StatefulSet" {
			at.stays("its controller is a " + key.kind + ", which we do not know to make it again")
			continue
		}
		wanted[key] = true
	}
	read, err := c.listOwners(ctx, wanted)
	if err != nil {
		return err
	}
	for i := range candidates {
		at := &candidates[i]
		if at.facts.NotMovable != "" {
			continue
		}
		key := ownerOf(at)
		owner, ok := read[key]
		if !ok {
			if owner, err = c.owner(ctx, key); err != nil {
				return fmt.Errorf("read %s of pod %s/%s: %w", at.facts.Owner, at.facts.Namespace, at.facts.Name, err)
			}
			read[key] = owner
		}
		at.facts.OwnerReady, at.facts.OwnerWants = owner.ready, owner.wants
		if owner.uid != metav1.GetControllerOf(at.pod).UID {
			at.stays("its controller " + at.facts.Owner + " is gone")
		}
	}
	return nil
}

// ownerOf names a candidate's controller; one without stays where it is, and is not asked about.
func ownerOf(c *candidate) ownerKey {
	ref := metav1.GetControllerOf(c.pod)
	return ownerKey{ref.Kind, c.pod.Namespace, ref.Name}
}

// listOwners finds controllers on the first pages of the lists that hold more than one of them.
func (c *Carrier) listOwners(ctx context.Context, wanted map[ownerKey]bool) (map[ownerKey]owned, error) {
	type list struct{ kind, namespace string }
	several := map[list]int{}
	for key := range wanted {
		several[list{key.kind, key.namespace}]++
	}
	found := map[ownerKey]owned{}
	for of, left := range several {
		opts := metav1.ListOptions{Limit: pageSize}
		for page := 0; left > 1 && page < ownersListed; page++ {
			items, next, err := onePage(ctx, opts, func(ctx context.Context, opts metav1.ListOptions) ([]owned, string, error) {
				return c.ownersPage(ctx, of.kind, of.namespace, opts)
			})
			if apierrors.IsResourceExpired(err) {
				break // the second page came too late
			}
			if err != nil {
				return nil, fmt.Errorf("list %ss of %s: %w", of.kind, of.namespace, err)
			}
			for _, owner := range items {
				if key := (ownerKey{of.kind, of.namespace, owner.name}); wanted[key] {
					found[key] = owner
					left--
				}
			}
			if opts.Continue = next; next == "" {
				break
			}
		}
	}
	return found, nil
}

// owner reads one controller, by a list of one: the API server finds it as fast as by a get, and only the right to list is needed.
func (c *Carrier) owner(ctx context.Context, key ownerKey) (owned, error) {
	opts := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, key.name).String()}
	items, _, err := onePage(ctx, opts, func(ctx context.Context, opts metav1.ListOptions) ([]owned, string, error) {
		return c.ownersPage(ctx, key.kind, key.namespace, opts)
	})
	if err != nil || len(items) == 0 {
		return owned{}, err
	}
	return items[0], nil
}

func (c *Carrier) ownersPage(ctx context.Context, kind, namespace string, opts metav1.ListOptions) ([]owned, string, error) {
	var owners []owned
	if kind == "StatefulSet" {
		list, err := c.reader.AppsV1().StatefulSets(namespace).List(ctx, opts)
		if err != nil {
			return nil, "", err
		}
		for i := range list.Items {
			owners = append(owners, ofStatefulSet(&list.Items[i]))
		}
		return owners, list.Continue, nil
	}
	list, err := c.reader.AppsV1().ReplicaSets(namespace).List(ctx, opts)
	if err != nil {
		return nil, "", err
	}
	for i := range list.Items {
		owners = append(owners, ofReplicaSet(&list.Items[i]))
	}
	return owners, list.Continue, nil
}

func ofReplicaSet(set *appsv1.ReplicaSet) owned {
	return owned{name: set.Name, uid: set.UID, ready: int(set.Status.ReadyReplicas), wants: orOne(set.Spec.Replicas)}
}

func ofStatefulSet(set *appsv1.StatefulSet) owned {
	return owned{name: set.Name, uid: set.UID, ready: int(set.Status.ReadyReplicas), wants: orOne(set.Spec.Replicas)}
}

func orOne(replicas *int32) int {
	if replicas == nil {
		return 1 // the API's default
	}
	return int(*replicas)
}
