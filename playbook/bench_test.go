package playbook

import (
	"fmt"
	"testing"
)

// BenchmarkDecide decides on carriers of growing size with one full node: time per node should stay the same.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{50, 500, 5000} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			o, p, r := healthy(n).full(0, 25).o, testPolicy(), testRun(Triage)
			b.ReportAllocs()
			for b.Loop() {
				if d := Decide(p, r, o); d.Diagnosis.Finding != FindingNodeFull {
					b.Fatalf("finding %s", d.Diagnosis.Finding)
				}
			}
		})
	}
}

// BenchmarkExplain explains what BenchmarkDecide decides, from what is kept of it.
func BenchmarkExplain(b *testing.B) {
	for _, n := range []int{50, 500, 5000} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			o, p := healthy(n).full(0, 25).o.Compact(), testPolicy()
			b.ReportAllocs()
			for b.Loop() {
				if q, _ := Decisive(Explain(p, o, Memory{})); q.Finding != FindingNodeFull {
					b.Fatalf("finding %s", q.Finding)
				}
			}
		})
	}
}
