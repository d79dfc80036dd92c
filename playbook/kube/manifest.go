package kube

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/drydock/drydock/playbook"
)

// originalManager is where a manifest remembers in whose name the object has to be created again. It is ours alone and
// taken off before the create.
const originalManager = ownPrefix + "original-manager"

// object is a Kubernetes object as the API server sent it. A reapply works on this and not on client-go's structs, which
// drop fields that a newer API server knows: a template that lost a field is another template, and restarts every pod.
type object map[string]any

func decodeObject(raw []byte) (object, error) {
	var o object
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // an int64 must not pass through a float
	if err := d.Decode(&o); err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	return o, nil
}

// under is the map below the keys; nil, which can be read, when there is none.
func (o object) under(keys ...string) map[string]any {
	at := map[string]any(o)
	for _, key := range keys {
		at, _ = at[key].(map[string]any)
	}
	return at
}

// sanitize makes the manifest of a live DaemonSet that creates the same DaemonSet again, with its SHA-256 in hex.
//
// The runbook says "strip annotations". We take off only what the API server sets itself and what is ours, and keep every
// annotation and label: without deprecated.daemonset.template.generation the new object starts at generation 1 and the next
// rollout stays on the old image for good, and Helm, Argo and kubectl apply keep their ownership there (kubernetes.md, facts 2
// and 3, and 1.5). The template is not touched at all.
func sanitize(raw []byte) (playbook.Manifest, string, error) {
	o, err := decodeObject(raw)
	if err != nil {
		return nil, "", err
	}
	meta := o.under("metadata")
	if meta == nil || o.under("spec") == nil {
		return nil, "", fmt.Errorf("sanitize DaemonSet: it has no metadata or no spec")
	}
	manager := mainManager(meta)
	delete(o, "status")
	for _, field := range []string{"resourceVersion", "uid", "selfLink", "generation", "creationTimestamp", "managedFields",
		"deletionTimestamp", "deletionGracePeriodSeconds"} {
		delete(meta, field)
	}
	dropCollectorFinalizers(meta)
	annotations := withoutOurs(meta)
	if manager != "" {
		annotations[originalManager] = manager
	}
	if len(annotations) == 0 {
		delete(meta, "annotations")
	} else {
		meta["annotations"] = annotations
	}
	manifest, err := canonical(o)
	if err != nil {
		return nil, "", err
	}
	return manifest, hexSHA256(manifest), nil
}

// dropCollectorFinalizers takes off the finalizers that a delete itself puts on, so that an object has the same
// manifest before and while it is deleted. Other finalizers stay.
func dropCollectorFinalizers(meta map[string]any) {
	finalizers, ok := meta["finalizers"].([]any)
	if !ok {
		return
	}
	finalizers = slices.DeleteFunc(finalizers, func(f any) bool { return f == "orphan" || f == "foregroundDeletion" })
	if len(finalizers) == 0 {
		delete(meta, "finalizers")
		return
	}
	meta["finalizers"] = finalizers
}

// withoutOurs is the object's annotations but for Drydock's.
func withoutOurs(meta map[string]any) map[string]any {
	kept := map[string]any{}
	annotations, _ := meta["annotations"].(map[string]any)
	for key, value := range annotations {
		if !strings.HasPrefix(key, ownPrefix) {
			kept[key] = value
		}
	}
	return kept
}

// mainManager is the field manager that owns most of the object outside its status: the one in whose name a plain create
// leaves the fewest conflicts for those who apply later (kubernetes.md 1.5). "" on servers that keep none.
func mainManager(meta map[string]any) string {
	entries, _ := meta["managedFields"].([]any)
	var main string
	most := 0
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		manager, _ := entry["manager"].(string)
		subresource, _ := entry["subresource"].(string)
		if manager == "" || manager == fieldManager || subresource != "" {
			continue
		}
		fields, err := json.Marshal(entry["fieldsV1"])
		if err != nil {
			continue
		}
		if size := len(fields); size > most || size == most && manager < main {
			main, most = manager, size
		}
	}
	return main
}

// creatable turns a manifest into the body of a create and the field manager to send it as.
func creatable(m playbook.Manifest) (body []byte, manager string, err error) {
	o, err := decodeObject(m)
	if err != nil {
		return nil, "", err
	}
	meta := o.under("metadata")
	if meta == nil {
		return nil, "", fmt.Errorf("manifest has no metadata")
	}
	annotations, _ := meta["annotations"].(map[string]any)
	manager, _ = annotations[originalManager].(string)
	delete(annotations, originalManager)
	if len(annotations) == 0 {
		delete(meta, "annotations")
	}
	if manager == "" {
		manager = fieldManager
	}
	body, err = canonical(o)
	return body, manager, err
}

// specHash covers what a re-creation must restore: spec, labels and annotations, ours left out.
func specHash(raw []byte) (string, error) {
	o, err := decodeObject(raw)
	if err != nil {
		return "", err
	}
	meta := o.under("metadata")
	whole, err := canonical(object{"spec": o["spec"], "labels": meta["labels"], "annotations": withoutOurs(meta)})
	if err != nil {
		return "", err
	}
	return hexSHA256(whole), nil
}

// canonical is JSON with sorted keys and no spaces: equal objects have equal bytes.
func canonical(o object) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(o); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
