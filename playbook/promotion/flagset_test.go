package promotion

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
)

func TestFlagSetVersion(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path, value string // value: JSON; empty: the set holds no such flag
		broken      error
		want, err   string
	}{
		"text":         {value: `"1.2.3"`, want: "1.2.3"},
		"number":       {value: `1.10`, want: "1.10"},
		"object":       {path: "version", value: `{"version":"7"}`, want: "7"},
		"null":         {value: `null`},
		"no such flag": {},
		"no path":      {value: `{"version":"7"}`, err: "no text and no number"},
		"cut off":      {value: `{"version`, err: "read flag armada-ops"},
		"unreadable":   {broken: errors.New("connection refused"), err: "connection refused"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := NewFlagSet(FlagSetConfig{Namespace: "razee", Name: "flags-{carrier}", Flag: "{component}", JSONPath: tt.path},
				func(_ context.Context, carrier, namespace, name, flag string) (json.RawMessage, error) {
					if carrier != "c1" || namespace != "razee" || name != "flags-c1" || flag != "armada-ops" {
						t.Errorf("asked %s for %s/%s, flag %s", carrier, namespace, name, flag)
					}
					if tt.value == "" {
						return nil, tt.broken
					}
					return json.RawMessage(tt.value), tt.broken
				})
			if err != nil {
				t.Fatal(err)
			}
			version, err := s.Version(t.Context(), "c1", "armada-ops")
			wantVersion(t, version, err, tt.want, tt.err)
		})
	}
	for _, config := range []FlagSetConfig{{Name: "n", Flag: "f"}, {Namespace: "n", Flag: "f"}, {Namespace: "n", Name: "n"},
		{Namespace: "n", Name: "n", Flag: "f", JSONPath: "["}} {
		if _, err := NewFlagSet(config, nil); err == nil {
			t.Errorf("%+v was accepted", config)
		}
	}
}
