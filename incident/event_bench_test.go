package incident

import "testing"

// Intake reads every webhook's body here, so its cost bounds the webhooks that one core takes.
func BenchmarkParseEvent(b *testing.B) {
	body := []byte(v3(TypeTriggered, fullIncident))
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := ParseEvent(body); err != nil {
			b.Fatal(err)
		}
	}
}
