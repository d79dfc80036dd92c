package kube

import (
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestFeatureFlag(t *testing.T) {
	t.Parallel()
	const line = "GET /apis/deploy.razee.io/v1alpha2/namespaces/razee/featureflagsetsld/flags"
	body := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Accept"); got != "application/json" {
				t.Errorf("Accept %q", got)
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(text))
		}
	}
	tests := map[string]struct {
		answer http.HandlerFunc
		want   string // JSON; empty: the set has no such flag
		err    string
	}{
		"text":          {answer: body(`{"data":{"armada-ops":"1.2.3"}}`), want: `"1.2.3"`},
		"object":        {answer: body(`{"data":{"armada-ops":{"version":1.10}}}`), want: `{"version":1.10}`},
		"no such flag":  {answer: body(`{"data":{"other":"1"}}`)},
		"no flags":      {answer: body(`{"data":{}}`)},
		"not evaluated": {answer: body(`{"spec":{}}`), err: "has not evaluated it"},
		"no such set":   {answer: status(404, metav1.StatusReasonNotFound, "not found", &metav1.StatusDetails{Name: "flags", Kind: "featureflagsetsld"}), err: "not found"},
		"not allowed":   {answer: status(403, metav1.StatusReasonForbidden, "may not get", nil), err: "may not get"},
		"not installed": {err: "could not find the requested resource"},
		"odd shape":     {answer: body(`{"data":[1]}`), err: "read FeatureFlagSetLD razee/flags"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{answers: map[string]http.HandlerFunc{line: tt.answer}}
			got, err := s.start(t, Options{ReadOnly: true}).FeatureFlag(t.Context(), "razee", "flags", "armada-ops")
			if string(got) != tt.want {
				t.Errorf("flag %s, want %s", got, tt.want)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}
