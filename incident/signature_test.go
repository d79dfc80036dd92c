package incident

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sign(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

func TestVerify(t *testing.T) {
	t.Parallel()
	const body = `{"event":{"id":"01TESTONLY"}}`
	good, old := sign("alpha", body), sign("beta", body)
	junk := "v1=" + strings.Repeat("00", sha256.Size)

	tests := []struct {
		name    string
		secrets []string
		lines   []string
		body    string
		want    error
	}{
		{"one value", []string{"alpha"}, []string{good}, body, nil},
		{"upper-case hex", []string{"alpha"}, []string{"v1=" + strings.ToUpper(good[3:])}, body, nil},
		{"second secret", []string{"alpha", "beta"}, []string{old}, body, nil},
		{"second value", []string{"alpha"}, []string{junk + "," + good}, body, nil},
		{"spaces and tabs around commas", []string{"alpha"}, []string{" " + junk + " ,\t" + good + " "}, body, nil},
		{"second header line", []string{"alpha"}, []string{junk, good}, body, nil},
		{"beside a scheme of the future", []string{"alpha"}, []string{"v2=abc," + good}, body, nil},
		{"broken value beside a good one", []string{"alpha"}, []string{"v1=zz," + good}, body, nil},
		{"eight values", []string{"alpha"}, []string{strings.Repeat(junk+",", 7) + good}, body, nil},
		{"nine values", []string{"alpha"}, []string{strings.Repeat(junk+",", 8) + good}, body, ErrTooManySignatures},
		{"wrong secret", []string{"gamma"}, []string{good}, body, ErrBadSignature},
		{"changed body", []string{"alpha"}, []string{good}, body + " ", ErrBadSignature},
		{"shortened digest", []string{"alpha"}, []string{good[:len(good)-2]}, body, ErrBadSignature},
		{"empty digest", []string{"alpha"}, []string{"v1="}, body, ErrBadSignature},
		{"no prefix", []string{"alpha"}, []string{good[3:]}, body, ErrNoSignature},
		{"only v2", []string{"alpha"}, []string{"v2=" + good[3:]}, body, ErrNoSignature},
		{"empty header", []string{"alpha"}, []string{""}, body, ErrNoSignature},
		{"no header", []string{"alpha"}, nil, body, ErrNoSignature},
		{"no secret configured", nil, []string{sign("", body)}, body, ErrNoSecret},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, err := NewVerifier(tt.secrets, nil)
			if err != nil {
				t.Fatal(err)
			}
			h := http.Header{}
			for _, l := range tt.lines {
				h.Add(signatureHeader, l)
			}
			if got := v.Verify(h, []byte(tt.body)); !errors.Is(got, tt.want) {
				t.Errorf("Verify() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestNewVerifierRefusesEmptySecret(t *testing.T) {
	t.Parallel()
	_, err := NewVerifier([]string{"alpha", ""}, nil)
	if err == nil || !strings.Contains(err.Error(), "webhook_secrets[1]") {
		t.Fatalf("NewVerifier() error = %v, want one that names webhook_secrets[1]", err)
	}
}

func TestVerifierAlarm(t *testing.T) {
	t.Parallel()
	const body = "{}"
	type delivery struct {
		sub  string
		good bool
	}
	type news struct {
		Sub    string
		Raised bool
	}
	ok, bad := true, false
	tests := []struct {
		name string
		in   []delivery
		want []news
	}{
		{"two bad ones are quiet", []delivery{{"PSUB001", bad}, {"PSUB001", bad}}, nil},
		{"three raise it once", []delivery{{"PSUB001", bad}, {"PSUB001", bad}, {"PSUB001", bad}, {"PSUB001", bad}}, []news{{"PSUB001", true}}},
		{"a good one in between resets", []delivery{{"PSUB001", bad}, {"PSUB001", bad}, {"PSUB001", ok}, {"PSUB001", bad}, {"PSUB001", bad}}, nil},
		{"a good one takes it back", []delivery{{"PSUB001", bad}, {"PSUB001", bad}, {"PSUB001", bad}, {"PSUB001", ok}, {"PSUB001", ok}}, []news{{"PSUB001", true}, {"PSUB001", false}}},
		{
			"another subscription's good ones hide nothing",
			[]delivery{{"PSUB002", bad}, {"PSUB001", ok}, {"PSUB002", bad}, {"PSUB001", ok}, {"PSUB002", bad}},
			[]news{{"PSUB002", true}},
		},
		{"no usable id", []delivery{{"", bad}, {"x/../y", bad}, {"<b>", bad}}, []news{{"", true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []news
			v, err := NewVerifier([]string{"alpha"}, func(sub string, raised bool) { got = append(got, news{sub, raised}) })
			if err != nil {
				t.Fatal(err)
			}
			for i, d := range tt.in {
				h := http.Header{}
				h.Set(subscriptionHeader, d.sub)
				h.Set(signatureHeader, sign(map[bool]string{true: "alpha", false: "other"}[d.good], body))
				if err := v.Verify(h, []byte(body)); (err == nil) != d.good {
					t.Fatalf("delivery %d: Verify() = %v, want good %v", i, err, d.good)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("alarms (-want +got):\n%s", diff)
			}
		})
	}
}

// Forged subscription ids must neither grow the memory nor silence the alarm.
func TestVerifierAlarmIsBounded(t *testing.T) {
	t.Parallel()
	var raised []string
	v, err := NewVerifier([]string{"alpha"}, func(sub string, up bool) {
		if up {
			raised = append(raised, sub)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 {
		h := http.Header{}
		h.Set(subscriptionHeader, "PFORGED"+strings.Repeat("A", i%20)+string(rune('A'+i%26)))
		if err := v.Verify(h, nil); err == nil {
			t.Fatal("an unsigned body was accepted")
		}
	}
	if len(v.bad) > maxSubscriptions+1 {
		t.Errorf("%d subscriptions are remembered, want at most %d", len(v.bad), maxSubscriptions+1)
	}
	if len(raised) == 0 {
		t.Error("10,000 refusals raised no alarm")
	}
}

func TestVerifierConcurrent(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	alarms := 0
	v, err := NewVerifier([]string{"alpha"}, func(string, bool) { mu.Lock(); alarms++; mu.Unlock() })
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := v.Verify(http.Header{}, nil); !errors.Is(err, ErrNoSignature) {
				t.Errorf("Verify() = %v, want %v", err, ErrNoSignature)
			}
		})
	}
	wg.Wait()
	if alarms != 1 {
		t.Errorf("50 refusals in a row raised %d alarms, want 1", alarms)
	}
}

// FuzzVerify: whatever the header says, exactly the digest of the body under the secret opens the door, in one of the places
// where a digest may stand.
func FuzzVerify(f *testing.F) {
	const secret, body = "alpha", `{"event":{"id":"01TESTONLY"}}`
	good := sign(secret, body)
	junk := "v1=" + strings.Repeat("00", sha256.Size)
	for _, header := range []string{good, "v1=" + strings.ToUpper(good[3:]), junk + ", " + good, " v1=zz,\t" + good, strings.Repeat(junk+",", 8) + good,
		good[:len(good)-2], good[3:], "v1=", "v1=v1=" + good[3:], ",,,", "v2=" + good[3:], ""} {
		f.Add(header, body)
	}
	v, err := NewVerifier([]string{secret}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header, body string) {
		want := sign(secret, body)
		values, matches := 0, false
		for _, value := range strings.Split(header, ",") {
			value = strings.TrimSpace(value)
			if strings.HasPrefix(value, "v1=") {
				values++
				// Only the digits of a digest may be written in two ways.
				matches = matches || value[:3]+strings.ToLower(value[3:]) == want && len(value) == len(want)
			}
		}
		wantErr := ErrBadSignature
		switch {
		case values == 0:
			wantErr = ErrNoSignature
		case values > maxSignatures:
			wantErr = ErrTooManySignatures
		case matches:
			wantErr = nil
		}
		h := http.Header{}
		h.Set(signatureHeader, header)
		if err := v.Verify(h, []byte(body)); !errors.Is(err, wantErr) {
			t.Errorf("Verify(%q, %q) = %v, want %v", header, body, err, wantErr)
		}
	})
}
