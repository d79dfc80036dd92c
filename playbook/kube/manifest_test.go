package kube

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const live = `{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"node-exporter","namespace":"monitoring",
"uid":"u","resourceVersion":"9","generation":9007199254740993,"creationTimestamp":"2026-11-22T00:00:00Z","selfLink":"/x",
"labels":{"app":"node-exporter"},"ownerReferences":[{"kind":"Operator","name":"o"}],"finalizers":["orphan","example.com/keep"],
"deletionTimestamp":"2026-11-22T00:00:01Z","deletionGracePeriodSeconds":0,
"annotations":{"deprecated.daemonset.template.generation":"3","kubectl.kubernetes.io/last-applied-configuration":"{\"a\":\"<b>&\"}",
"drydock.dev/generation":"run/1/X","drydock.dev/nudged-by-run":"run"},
"managedFields":[{"manager":"kube-controller-manager","subresource":"status","fieldsV1":{"f:status":{"f:a":{},"f:b":{},"f:c":{},"f:d":{},"f:e":{}}}},
{"manager":"drydock","fieldsV1":{"f:metadata":{"f:annotations":{"f:drydock.dev/generation":{},"f:drydock.dev/nudged-by-run":{}}}}},
{"manager":"kubectl-client-side-apply","fieldsV1":{"f:spec":{"f:template":{}}}}]},
"spec":{"revisionHistoryLimit":10,"newField":{"theServerKnows":9007199254740993},
"template":{"metadata":{"annotations":{"drydock.dev/in-the-template":"stays","kubectl.kubernetes.io/restartedAt":"x"},"creationTimestamp":null}}},
"status":{"currentNumberScheduled":1}}`

// Facts 2 and 3: every annotation and label stays, and the template keeps its every byte, also what client-go does not know.
func TestSanitizeKeepsWhatUsersAndToolsOwn(t *testing.T) {
	t.Parallel()
	manifest, sum, err := sanitize([]byte(live))
	if err != nil {
		t.Fatal(err)
	}
	body, manager, err := creatable(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if manager != "kubectl-client-side-apply" {
		t.Errorf("manager = %q: the one that owns most of the spec, neither the status's nor ours", manager)
	}
	want := `{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"annotations":{"deprecated.daemonset.template.generation":"3",` +
		`"kubectl.kubernetes.io/last-applied-configuration":"{\"a\":\"<b>&\"}"},"finalizers":["example.com/keep"],"labels":{"app":"node-exporter"},` +
		`"name":"node-exporter","namespace":"monitoring","ownerReferences":[{"kind":"Operator","name":"o"}]},` +
		`"spec":{"newField":{"theServerKnows":9007199254740993},"revisionHistoryLimit":10,"template":{"metadata":{"annotations":` +
		`{"drydock.dev/in-the-template":"stays","kubectl.kubernetes.io/restartedAt":"x"},"creationTimestamp":null}}}}`
	if diff := cmp.Diff(want, string(body)); diff != "" {
		t.Errorf("body:\n%s", diff)
	}
	if len(sum) != 64 || sum != hexSHA256(manifest) {
		t.Errorf("sum = %q", sum)
	}
}

// What the API server and we write ourselves changes no hash; what anybody else writes does.
func TestHashes(t *testing.T) {
	t.Parallel()
	hashes := func(raw string) [2]string {
		_, sum, err := sanitize([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		spec, err := specHash([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		return [2]string{sum, spec}
	}
	base := hashes(live)
	for _, same := range [][2]string{
		{`"resourceVersion":"9"`, `"resourceVersion":"10"`}, {`"uid":"u"`, `"uid":"v"`}, {"run/1/X", "run/2/Y"},
		{`"drydock.dev/nudged-by-run":"run"`, `"drydock.dev/nudged-by-run":"other"`}, {`"orphan",`, ``},
		{`"currentNumberScheduled":1`, `"currentNumberScheduled":2`}, {`"generation":9007199254740993`, `"generation":1`},
	} {
		if got := hashes(strings.Replace(live, same[0], same[1], 1)); got != base {
			t.Errorf("%s to %s changed a hash", same[0], same[1])
		}
	}
	for _, other := range [][2]string{
		{`"app":"node-exporter"`, `"app":"x"`}, {`template.generation":"3"`, `template.generation":"4"`}, {`"revisionHistoryLimit":10`, `"revisionHistoryLimit":11`},
		{`"theServerKnows":9007199254740993`, `"theServerKnows":9007199254740992`},
	} {
		if got := hashes(strings.Replace(live, other[0], other[1], 1)); got[0] == base[0] || got[1] == base[1] {
			t.Errorf("%s to %s changed no hash", other[0], other[1])
		}
	}
}

func TestSanitizeWithoutAnnotations(t *testing.T) {
	t.Parallel()
	manifest, _, err := sanitize([]byte(`{"metadata":{"name":"a","annotations":{"drydock.dev/generation":"x"}},"spec":{}}`))
	if err != nil || string(manifest) != `{"metadata":{"name":"a"},"spec":{}}` {
		t.Errorf("manifest = %s, %v", manifest, err)
	}
	body, manager, err := creatable(manifest)
	if err != nil || string(body) != string(manifest) || manager != fieldManager {
		t.Errorf("body = %s as %q, %v", body, manager, err)
	}
}

func FuzzSanitize(f *testing.F) {
	f.Add(live)
	f.Add(`{"metadata":{"annotations":[],"finalizers":{},"managedFields":[1,{"manager":2}]},"spec":{}}`)
	f.Add(`{"metadata":null}`)
	f.Fuzz(func(t *testing.T, raw string) {
		manifest, _, err := sanitize([]byte(raw))
		if err != nil {
			return
		}
		if !json.Valid(manifest) {
			t.Fatalf("manifest is no JSON: %s", manifest)
		}
		body, _, err := creatable(manifest)
		if err != nil {
			t.Fatalf("the manifest can not be created: %v", err)
		}
		// What was created shows the same manifest again, but for the manager, which the new managedFields tell.
		again, _, err := sanitize(body)
		if err != nil {
			t.Fatalf("the created object can not be sanitized: %v", err)
		}
		if twice, _, err := creatable(again); err != nil || string(twice) != string(body) {
			t.Fatalf("created %s, then %s: %v", body, twice, err)
		}
	})
}
