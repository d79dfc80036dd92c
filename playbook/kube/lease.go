package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/playbook"
)

// Counts is the annotation of the Lease that holds a playbook.Count for each carrier, as one JSON object: a cluster may be
// configured as several carriers, which all belong to the one installation that the Lease names.
const Counts = ownPrefix + "counts"

// Lease reads the carrier's Lease and whether it may be written, see playbook.Carrier.
func (c *Carrier) Lease(ctx context.Context) playbook.Reading[playbook.CarrierLease] {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	object, err := c.getLease(ctx)
	if err != nil {
		return leaseReading(playbook.CarrierLease{}, err)
	}
	l, err := c.readLease(object)
	if err != nil {
		return leaseReading(l, err)
	}
	verb := "update"
	if object == nil {
		verb = "create"
	}
	if err := c.mayWriteLease(ctx, verb); err != nil {
		return leaseReading(l, err)
	}
	return playbook.Known(l)
}

// leaseReading tells a missing right, which is a fact, from what could not be read.
func leaseReading(l playbook.CarrierLease, err error) playbook.Reading[playbook.CarrierLease] {
	if denied, ok := errors.AsType[*deniedError](err); ok {
		l.Denied = denied.Error()
		return playbook.Known(l)
	}
	return playbook.Unknown[playbook.CarrierLease](short(err.Error()))
}

// deniedError names a verb that Drydock lacks on the Lease.
type deniedError struct{ verb string }

func (e *deniedError) Error() string {
	return fmt.Sprintf("it needs the right to %s leases.coordination.k8s.io in namespace %s", e.verb, playbook.LeaseNamespace)
}

// saidForbidden reports whether the API server itself answered 403; a proxy's page is nobody's word.
func saidForbidden(err error) bool {
	_, answered := statusOf(err)
	return answered && apierrors.IsForbidden(err)
}

// getLease returns nil when the API server said that there is none.
func (c *Carrier) getLease(ctx context.Context) (*coordinationv1.Lease, error) {
	object, err := c.reader.CoordinationV1().Leases(playbook.LeaseNamespace).Get(ctx, playbook.LeaseName, metav1.GetOptions{})
	switch {
	case saidNotFound(err, "leases", playbook.LeaseName):
		return nil, nil //nolint:nilnil // a Lease that does not exist is an answer, not an error
	case saidForbidden(err):
		return nil, &deniedError{verb: "get"}
	case err != nil:
		return nil, fmt.Errorf("get Lease %s/%s: %w", playbook.LeaseNamespace, playbook.LeaseName, err)
	}
	return object, nil
}

// readLease finds what the Lease says about this carrier. Counts that can not be read are an error: taking them for none would
// let a restored database pass.
func (c *Carrier) readLease(object *coordinationv1.Lease) (playbook.CarrierLease, error) {
	var l playbook.CarrierLease
	if object == nil {
		return l, nil
	}
	if object.Spec.HolderIdentity != nil {
		l.Holder = *object.Spec.HolderIdentity
	}
	counts, err := readCounts(object)
	l.Count = counts[c.name]
	return l, err
}

func readCounts(object *coordinationv1.Lease) (map[string]playbook.Count, error) {
	counts := map[string]playbook.Count{}
	if text := object.Annotations[Counts]; text != "" {
		if err := json.Unmarshal([]byte(text), &counts); err != nil {
			return nil, fmt.Errorf("read annotation %s of Lease %s/%s: %w", Counts, playbook.LeaseNamespace, playbook.LeaseName, err)
		}
	}
	return counts, nil
}

func (c *Carrier) mayWriteLease(ctx context.Context, verb string) error {
	lacks, err := c.lacks(ctx, writeLease(verb))
	if err == nil && lacks {
		err = &deniedError{verb: verb}
	}
	return err
}

// Hold writes the installation and its count on the Lease, see playbook.Carrier.
func (c *Carrier) Hold(ctx context.Context, installation string, count playbook.Count) (playbook.CarrierLease, error) {
	return c.writeLease(ctx, installation, count, false)
}

// TakeOver makes the Lease name the installation with this count, whoever it names now, at an admin's word. The installation
// before it then refuses to act, and a copy of this one's database finds itself behind.
func (c *Carrier) TakeOver(ctx context.Context, installation string, count playbook.Count) error {
	l, err := c.writeLease(ctx, installation, count, true)
	if err == nil && l.Denied != "" {
		err = errors.New(l.Denied)
	}
	if err != nil {
		return fmt.Errorf("take over the Lease of carrier %s: %w", c.name, err)
	}
	return nil
}

func (c *Carrier) writeLease(ctx context.Context, installation string, count playbook.Count, force bool) (playbook.CarrierLease, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for try := 1; ; try++ {
		l, err := c.writeLeaseOnce(ctx, installation, count, force)
		// Another carrier of the same cluster, or another replica, came between: read again, and be refused or not again.
		if (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)) && try < touchTries {
			continue
		}
		if denied, ok := errors.AsType[*deniedError](err); ok {
			l.Denied = denied.Error()
			return l, nil
		}
		return l, err
	}
}

func (c *Carrier) writeLeaseOnce(ctx context.Context, installation string, count playbook.Count, force bool) (playbook.CarrierLease, error) {
	object, err := c.getLease(ctx)
	if err != nil {
		return playbook.CarrierLease{}, err
	}
	l, err := c.readLease(object)
	switch {
	case err != nil:
		return l, err
	case !force && l.Refusal(c.name, installation, count).Refuses():
		return l, nil
	case l.Holder == installation && l.Count == count:
		return l, nil
	}
	verb := "update"
	if object == nil {
		verb = "create"
		object = &coordinationv1.Lease{TypeMeta: metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
			ObjectMeta: metav1.ObjectMeta{Namespace: playbook.LeaseNamespace, Name: playbook.LeaseName}}
	}
	counts, err := readCounts(object)
	if err != nil {
		return l, err
	}
	counts[c.name] = count
	text, err := json.Marshal(counts)
	if err != nil {
		return l, fmt.Errorf("encode the counts: %w", err)
	}
	object = object.DeepCopy()
	object.Annotations = maps.Clone(object.Annotations)
	if object.Annotations == nil {
		object.Annotations = map[string]string{}
	}
	object.Annotations[Counts], object.Spec.HolderIdentity = string(text), &installation
	if err := c.sendLease(ctx, verb, object); err != nil {
		if saidForbidden(err) {
			c.granted.forget(writeLease(verb))
			return l, &deniedError{verb: verb}
		}
		return l, fmt.Errorf("%s Lease %s/%s: %w", verb, playbook.LeaseNamespace, playbook.LeaseName, err)
	}
	return playbook.CarrierLease{Holder: installation, Count: count}, nil
}

// sendLease creates the Lease, or replaces it under its resourceVersion.
func (c *Carrier) sendLease(ctx context.Context, verb string, object *coordinationv1.Lease) error {
	object.TypeMeta = metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"}
	object.ManagedFields = nil
	body, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encode the Lease: %w", err)
	}
	client := c.actor.CoordinationV1().RESTClient()
	req := client.Post().Namespace(playbook.LeaseNamespace).Resource("leases")
	if verb == "update" {
		req = client.Put().Namespace(playbook.LeaseNamespace).Resource("leases").Name(playbook.LeaseName)
	}
	return c.send(ctx, "", req.Param("fieldManager", fieldManager).SetHeader("Content-Type", "application/json").Body(body))
}
